"use strict";
// Puts in what is folded when it is opened, what is chosen when it is chosen, and opens the way to a link's target.
const $ = (id) => document.getElementById(id);
let parts;
const unpacked = () => (parts ??= (async () => {
  const bytes = Uint8Array.from(atob($("packed").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return (await new Response(stream).text()).split("\0");
})());

async function fill(details) {
  const part = details.dataset.part;
  if (part === undefined) return;
  const parts = await unpacked();
  if (details.dataset.part === undefined) return; // filled meanwhile
  delete details.dataset.part;
  const summary = details.querySelector("summary");
  details.innerHTML = parts[part];
  details.prepend(summary);
  details.querySelectorAll(".choice").forEach(offer);
}
addEventListener("toggle", (event) => event.target.open && fill(event.target), true);

// A choice: options that go with none of the earlier ones are left out.
function offer(choice) {
  const keys = Object.keys(JSON.parse(choice.dataset.variants)).map((key) => key.split("\n"));
  const chosen = [];
  choice.querySelectorAll("select").forEach((select, at) => {
    const fits = (value) => keys.some((key) => key[at] === value && chosen.every((v, i) => v === key[i]));
    let left = 0;
    for (const option of select.options) left += !(option.hidden = option.disabled = !fits(option.value));
    if (!fits(select.value)) select.value = [...select.options].find((o) => !o.disabled).value;
    select.parentElement.hidden = left < 2;
    chosen.push(select.value);
  });
  return JSON.parse(choice.dataset.variants)[chosen.join("\n")];
}
addEventListener("change", async ({ target }) => {
  const choice = target.closest(".choice");
  if (choice) choice.querySelector(".chosen").innerHTML = (await unpacked())[offer(choice)];
});

// A link into something folded opens everything around its target first.
async function reveal() {
  const id = decodeURIComponent(location.hash.slice(1));
  if (!id) return;
  const parts = await unpacked();
  const way = [];
  for (let wanted = `id="${id}"`; !$(id); ) {
    const part = parts.findIndex((html) => html.includes(wanted));
    if (part < 0 || way.includes(part)) return;
    way.unshift(part);
    const details = document.querySelector(`[data-part="${part}"]`);
    if (details) for (const next of way) await fill(document.querySelector(`[data-part="${next}"]`));
    else wanted = `data-part="${part}"`;
  }
  const target = $(id);
  const own = target.tagName === "SECTION" && target.querySelector(":scope > details");
  for (let n = own || target; n; n = n.parentElement) if (n.tagName === "DETAILS") { await fill(n); n.open = true; }
  document.querySelectorAll(".found").forEach((n) => n.classList.remove("found"));
  target.classList.add("found");
  target.scrollIntoView({ block: target.tagName === "TR" ? "center" : "start" });
}
addEventListener("hashchange", reveal);
// The same link again changes no hash.
addEventListener("click", ({ target }) => target.closest?.("a")?.hash === location.hash && reveal());

$("unfold").addEventListener("click", async () => {
  for (let folded; (folded = [...document.querySelectorAll("details:not([open])")]).length; )
    for (const details of folded) { await fill(details); details.open = true; }
});
document.querySelectorAll(".choice").forEach(offer);
reveal();
