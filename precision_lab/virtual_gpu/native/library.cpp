// torch's CUDA device 0, in host memory: what `library.py` compiles, loads and calls.
#include <ATen/native/Resize.h>
#include <ATen/ops/set_native.h>

#include <list>

#include "fallback.h"

namespace virtual_gpu {
namespace {

using c10::IValue;
using torch::jit::Stack;

// An argument of a call: the place of its tensors in the schema decides what is read and written.
struct Role {
  bool reads, writes, view;
};

Role role_of(const c10::Argument& argument, const std::string& name, size_t index) {
  const auto* alias = argument.alias_info();
  const bool writes = alias && alias->isWrite();
  const bool out = writes && argument.kwarg_only();
  const bool view = alias && !alias->isWrite();
  const bool reads = !view && !out && !(writes && ignores_itself(name)) && !touches_nothing(name) &&
      !(reads_some(name) && (index == 0 || name == "where"));
  return {reads, writes && !touches_nothing(name), view};
}

bool adds_up(const c10::FunctionSchema& schema, const Stack& arguments) {
  const auto accumulate = schema.argumentIndexWithName("accumulate");
  const auto reduce = schema.argumentIndexWithName("reduce");
  return reduce || (accumulate && arguments[*accumulate].isBool() && arguments[*accumulate].toBool());
}

template <class Function>
IValue mapped(const IValue& value, Function function) {
  if (value.isTensor()) return function(value.toTensor());
  if (value.isTensorList()) {
    std::vector<Tensor> found;
    for (const auto& t : value.toTensorVector()) found.push_back(function(t));
    return found;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> found;
    for (const std::optional<Tensor> t : value.toOptionalTensorList())
      found.push_back(t ? std::optional<Tensor>(function(*t)) : t);
    return found;
  }
  return value;
}

IValue host_generator(const c10::Argument& argument, const IValue& value) {
  const auto* optional = argument.type()->castRaw<c10::OptionalType>();
  const bool may_be_generator = optional && optional->getElementType()->kind() == c10::TypeKind::GeneratorType;
  const auto inner = [](const at::Generator& g) { return static_cast<Generator*>(g.unsafeGetGeneratorImpl())->inner; };
  if (value.isGenerator() && value.toGenerator().device().is_cuda()) return inner(value.toGenerator());
  if (value.isNone() && may_be_generator) return inner(default_generator());
  return value;
}

void fallback(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const std::string name = name_of(schema);
  TORCH_CHECK_NOT_IMPLEMENTED(op.hasComputedKernelForDispatchKey(c10::DispatchKey::CPU), "the operator ",
      schema.name(), " has code for GPUs only, which an emulated GPU cannot run");
  const auto count = schema.arguments().size();
  const Stack arguments(stack->end() - count, stack->end());
  Call call;
  Names names;
  std::vector<std::pair<Tensor, bool>> written;  // and whether all of it is new
  bool on_device = false, on_host = false;
  for (size_t i = 0; i < count; i++) {
    const auto& argument = schema.arguments()[i];
    const Role role = role_of(argument, name, i);
    auto& value = (*stack)[stack->size() - count + i];
    if (value.isDevice() && value.toDevice().is_cuda()) value = c10::Device(c10::DeviceType::CPU);
    value = host_generator(argument, value);
    value = mapped(value, [&](const Tensor& t) {
      on_host |= t.defined() && t.is_cpu() && t.dim() > 0;
      if (!t.defined() || !t.is_cuda()) return t;
      on_device = true;
      Tensor host = call.host(t);
      if (role.reads) check_read(host, "the operator " + name + " of torch");
      const Names found = arena().names(host.storage().data());
      const bool whole = role.writes && (argument.kwarg_only() || computes_all(name));
      if (!whole) names.insert(found.begin(), found.end());
      if (role.writes) written.emplace_back(host, whole);
      return host;
    });
  }
  TORCH_CHECK(!(on_device && on_host) || mixes_devices(name),
      "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!");
  if (!computes_nothing(name) || adds_up(schema, arguments)) names.insert(name);
  {
    at::AutoDispatchBelowADInplaceOrView below;
    OnDevice results_are_the_devices;
    op.redispatchBoxed(HOST, stack);
  }
  call.settle();
  for (const auto& [host, whole] : written) {
    set_written(host);
    add_names(host, names, whole);
  }
  const auto results = schema.returns().size();
  for (size_t i = 0; i < results; i++) {
    auto& value = (*stack)[stack->size() - results + i];
    value = mapped(value, [&](const Tensor& t) {
      if (!t.defined() || !t.is_cpu()) return t;
      if (call.is_argument(t)) return call.device(t);  // itself, or a view
      Tensor made = call.device(t);
      Tensor host = Call().host(made);
      set_written(host);
      add_names(host, names, false);
      return made;
    });
  }
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// copy_(self, src, non_blocking): within the device, to it and from it.
void copy(const c10::OperatorHandle&, Stack* stack) {
  torch::jit::pop(*stack);
  const Tensor source = torch::jit::pop(*stack).toTensor(), self = torch::jit::pop(*stack).toTensor();
  Call call;
  Tensor to = call.host(self), from = call.host(source);
  at::AutoDispatchBelowADInplaceOrView below;
  const bool same = self.scalar_type() == source.scalar_type();
  if (source.is_cuda() && !self.is_cuda()) check_read(from, "a copy to the CPU");
  if (source.is_cuda() && self.is_cuda() && !same) check_read(from, "the operator to of torch");
  to.copy_(from);
  if (self.is_cuda()) {
    Names names;
    if (source.is_cuda()) {
      names = arena().names(from.storage().data());
      if (!converts_alike(source.scalar_type(), self.scalar_type()))
        names.insert("to(" + lower(c10::toString(self.scalar_type())) + ")");
    }
    if (source.is_cuda() && same && has_states(to) && has_states(from))
      states_of(to).copy_(states_of(from));  // what is unwritten stays so in its copy
    else
      set_written(to);
    add_names(to, names, true);
  }
  stack->emplace_back(self);
}

void check_index(const std::optional<c10::Device>& device) {
  TORCH_CHECK(!device || device->index() <= 0, "CUDA error: invalid device ordinal: ", *device,
      "; there is one emulated GPU");
}

void empty(const c10::OperatorHandle&, Stack* stack) {
  const auto format = torch::jit::pop(*stack).toOptional<at::MemoryFormat>();
  const bool pinned = torch::jit::pop(*stack).toOptional<bool>().value_or(false);
  TORCH_CHECK(!pinned, "Only dense CPU tensors can be pinned");
  check_index(torch::jit::pop(*stack).toOptional<c10::Device>());
  torch::jit::drop(*stack, 1);  // layout
  const auto type = torch::jit::pop(*stack).toOptional<at::ScalarType>();
  const auto size = torch::jit::pop(*stack).toDimVector();
  const auto dtype = type.value_or(c10::get_default_dtype_as_scalartype());
  stack->emplace_back(Tensor(at::detail::empty_generic(size, &device_allocator(), DEVICE, dtype, format)));
}

void empty_strided(const c10::OperatorHandle&, Stack* stack) {
  torch::jit::drop(*stack, 1);  // pin_memory
  check_index(torch::jit::pop(*stack).toOptional<c10::Device>());
  torch::jit::drop(*stack, 1);  // layout
  const auto type = torch::jit::pop(*stack).toOptional<at::ScalarType>();
  const auto stride = torch::jit::pop(*stack).toDimVector(), size = torch::jit::pop(*stack).toDimVector();
  const auto dtype = type.value_or(c10::get_default_dtype_as_scalartype());
  stack->emplace_back(Tensor(at::detail::empty_strided_generic(size, stride, &device_allocator(), DEVICE, dtype)));
}

void set_part(const c10::OperatorHandle&, Stack* stack) {
  const auto stride = torch::jit::pop(*stack).toDimVector(), size = torch::jit::pop(*stack).toDimVector();
  const auto offset = torch::jit::pop(*stack).toInt();
  const auto storage = torch::jit::pop(*stack).toStorage();
  Tensor self = torch::jit::pop(*stack).toTensor();
  // No strides mean contiguous, and are told by a null pointer.
  const at::IntArrayRef strides = stride.empty() ? at::IntArrayRef() : at::IntArrayRef(stride);
  stack->emplace_back(at::native::set_storage_cpu_(self, storage, offset, size, strides));
}

void set_storage(const c10::OperatorHandle&, Stack* stack) {
  const auto storage = torch::jit::pop(*stack).toStorage();
  Tensor self = torch::jit::pop(*stack).toTensor();
  stack->emplace_back(at::native::set_(self, storage));
}

void set_tensor(const c10::OperatorHandle&, Stack* stack) {
  const Tensor source = torch::jit::pop(*stack).toTensor();
  Tensor self = torch::jit::pop(*stack).toTensor();
  stack->emplace_back(at::native::set_tensor_(self, source));
}

void set_empty(const c10::OperatorHandle&, Stack* stack) {
  Tensor self = torch::jit::pop(*stack).toTensor();
  Storage none(Storage::use_byte_size_t(), 0, &device_allocator(), true);
  stack->emplace_back(at::native::set_storage_cpu_(self, none, 0, {0}, {}));
}

void record_stream(const c10::OperatorHandle&, Stack* stack) { torch::jit::drop(*stack, 2); }

using Boxed = void (*)(const c10::OperatorHandle&, Stack*);

template <Boxed function>
void implement(const char* name, const char* overload) {
  static auto* handles = new std::list<c10::RegistrationHandleRAII>;
  handles->push_back(c10::Dispatcher::singleton().registerImpl(
      {name, overload}, c10::DispatchKey::CUDA, c10::KernelFunction::makeFromBoxedFunction<function>(), std::nullopt,
      nullptr, "precision_lab"));
}

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

void install() {
  Silent silent;
  c10::WarningUtils::WarningHandlerGuard quiet(&silent);
  auto& dispatcher = c10::Dispatcher::singleton();
  // What is registered last is called: in a build of torch for CUDA, its own kernels are there; in any, an operator
  // that has code for the CPU may have other code that serves for all devices.
  for (const auto& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findSchema(name);
    if (op && (op->hasKernelForDispatchKey(c10::DispatchKey::CUDA) ||
               op->hasKernelForDispatchKey(c10::DispatchKey::CPU)))
      implement<&fallback>(name.name.c_str(), name.overload_name.c_str());
  }
  implement<&empty>("aten::empty", "memory_format");
  implement<&empty_strided>("aten::empty_strided", "");
  implement<&copy>("aten::copy_", "");
  implement<&set_part>("aten::set_", "source_Storage_storage_offset");
  implement<&set_storage>("aten::set_", "source_Storage");
  implement<&set_tensor>("aten::set_", "source_Tensor");
  implement<&set_empty>("aten::set_", "");
  implement<&record_stream>("aten::record_stream", "");
  new c10::RegistrationHandleRAII(dispatcher.registerFallback(
      c10::DispatchKey::CUDA, c10::KernelFunction::makeFromBoxedFunction<&fallback>(), "precision_lab"));
  // torch has asked for its hooks while it was imported and keeps what it got: ours are made in the same place.
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

const char* virtual_gpu_names(uint64_t pointer) { return lines(arena().names(reinterpret_cast<void*>(pointer))); }

// After a launch, each allocation it was given has the names of all.
void virtual_gpu_spread(const uint64_t* pointers, uint64_t count) {
  Names all;
  for (uint64_t i = 0; i < count; i++) all.merge(arena().names(reinterpret_cast<void*>(pointers[i])));
  for (uint64_t i = 0; i < count; i++) arena().mark(reinterpret_cast<void*>(pointers[i]), all);
}

void virtual_gpu_mark(uint64_t pointer, const char* name) { arena().mark(reinterpret_cast<void*>(pointer), {name}); }

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
