// torch's CUDA device 0, in host memory: what `library.py` compiles, loads and calls.
#include <ATen/native/Resize.h>

#include <list>

#include "fallback.h"
#include "own.h"

namespace virtual_gpu {
namespace {

using Boxed = void (*)(const c10::OperatorHandle&, Stack*);

template <Boxed function>
void implement(const c10::OperatorName& name, c10::DispatchKey key = c10::DispatchKey::CUDA) {
  static auto* handles = new std::list<c10::RegistrationHandleRAII>;
  handles->push_back(c10::Dispatcher::singleton().registerImpl(
      name, key, c10::KernelFunction::makeFromBoxedFunction<function>(), std::nullopt, nullptr,
      "precision_lab"));
}

template <Boxed function>
void serve_the_rest(c10::DispatchKey key) {
  new c10::RegistrationHandleRAII(c10::Dispatcher::singleton().registerFallback(
      key, c10::KernelFunction::makeFromBoxedFunction<function>(), "precision_lab"));
}

constexpr c10::DispatchKey SPARSE[] = {c10::DispatchKey::SparseCUDA, c10::DispatchKey::SparseCsrCUDA};

void refuse(const c10::OperatorHandle& op, Stack*) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, op.schema().name(),
                              ": an emulated GPU has dense tensors only, and is asked for sparse ones");
}

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

void install() {
  Silent silent;
  c10::WarningUtils::WarningHandlerGuard quiet(&silent);
  auto& dispatcher = c10::Dispatcher::singleton();
  // What is registered last is called: in a build of torch for CUDA, its own kernels are there; in any, an
  // operator that has code for the CPU may have other code that serves for all devices. What other libraries
  // have registered for CUDA stays.
  for (const auto& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findSchema(name);
    if (!op || name.name.rfind("aten::", 0) != 0) continue;
    if (op->hasKernelForDispatchKey(c10::DispatchKey::CUDA) ||
        op->hasKernelForDispatchKey(c10::DispatchKey::CPU))
      implement<&fallback>(name);
    for (const auto key : SPARSE)
      if (op->hasKernelForDispatchKey(key)) implement<&refuse>(name, key);
  }
  implement<&empty>({"aten::empty", "memory_format"});
  implement<&empty_strided>({"aten::empty_strided", ""});
  implement<&copy>({"aten::copy_", ""});
  implement<&set_part>({"aten::set_", "source_Storage_storage_offset"});
  implement<&set_storage>({"aten::set_", "source_Storage"});
  implement<&set_tensor>({"aten::set_", "source_Tensor"});
  implement<&set_empty>({"aten::set_", ""});
  implement<&record_stream>({"aten::record_stream", ""});
  serve_the_rest<&fallback>(c10::DispatchKey::CUDA);
  for (const auto key : SPARSE) serve_the_rest<&refuse>(key);
  // torch has asked for its hooks while it was imported and keeps what it got: ours are made in the same
  // place.
  static_assert(sizeof(Hooks) == sizeof(at::CUDAHooksInterface), "hooks hold nothing but their functions");
  new (const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks())) Hooks(at::CUDAHooksArgs{});
  c10::impl::DeviceGuardImplRegistrar(c10::DeviceType::CUDA, new Guard);
  HostAllocator::plain() = c10::GetCPUAllocator();
  c10::SetCPUAllocator(new HostAllocator, UINT8_MAX);
  c10::SetAllocator(c10::DeviceType::CUDA, &device_allocator(), UINT8_MAX);
}

const char* lines(const Names& names) {
  static thread_local std::string text;
  text.clear();
  for (const auto& name : names) text += name + "\n";
  return text.c_str();
}

}  // namespace
}  // namespace virtual_gpu

// What Python calls. Pointers are integers; texts hold one name or sentence a line.
extern "C" {
using namespace virtual_gpu;

const char* virtual_gpu_install(uint64_t base, uint64_t states, uint64_t size) {
  static std::string trouble;
  try {
    arena().begin(base, states, size);
    install();
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  return trouble.c_str();
}

uint64_t virtual_gpu_allocate(uint64_t count) {
  try {
    return reinterpret_cast<uint64_t>(arena().allocate(count));
  } catch (const c10::Error&) {
    return 0;
  }
}

uint64_t virtual_gpu_allocation(uint64_t pointer, uint64_t* size) {
  return arena().allocation(reinterpret_cast<void*>(pointer), size);
}

const char* virtual_gpu_names(uint64_t pointer) {
  return lines(arena().names(reinterpret_cast<void*>(pointer)));
}

void virtual_gpu_mark(uint64_t pointer, const char* name) {
  arena().mark(reinterpret_cast<void*>(pointer), {name});
}

const char* virtual_gpu_take_reports() { return lines(arena().take_reports()); }

// Of a torch.UntypedStorage, by its `_cdata`; what is new in it is unwritten.
const char* virtual_gpu_resize(uint64_t storage, uint64_t bytes) {
  static thread_local std::string trouble;
  trouble.clear();
  try {
    at::native::resize_bytes_cpu(reinterpret_cast<StorageImpl*>(storage), bytes);
  } catch (const c10::Error& error) {
    trouble = error.what_without_backtrace();
  }
  return trouble.c_str();
}

uint64_t virtual_gpu_used() { return arena().used(); }
uint64_t virtual_gpu_peak() { return arena().peak(); }
void virtual_gpu_reset_peak() { arena().reset_peak(); }
void virtual_gpu_next_generator_is_default() { next_is_default() = true; }
}
