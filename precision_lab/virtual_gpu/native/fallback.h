// Every operator of the device, computed by torch's CPU code on the same bytes.
#pragma once
#include "tensors.h"

namespace virtual_gpu {

using c10::IValue;
using torch::jit::Stack;

// An argument of a call: the place of its tensors in the schema decides what is read and written.
struct Role {
  bool reads, writes, view;
};

inline Role role_of(const c10::Argument& argument, const std::string& name, size_t index) {
  const auto* alias = argument.alias_info();
  const bool writes = alias && alias->isWrite();
  const bool out = writes && argument.kwarg_only();
  const bool view = alias && !alias->isWrite();
  const bool reads = !view && !out && !(writes && ignores_itself(name)) && !touches_nothing(name) &&
                     !(reads_some(name) && (index == 0 || name == "where"));
  return {reads, writes && !touches_nothing(name), view};
}

inline bool adds_up(const c10::FunctionSchema& schema, const Stack& arguments) {
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

inline IValue host_generator(const c10::Argument& argument, const IValue& value) {
  const auto* optional = argument.type()->castRaw<c10::OptionalType>();
  const bool may_be_generator =
      optional && optional->getElementType()->kind() == c10::TypeKind::GeneratorType;
  const auto inner = [](const at::Generator& g) {
    return static_cast<Generator*>(g.unsafeGetGeneratorImpl())->inner;
  };
  if (value.isGenerator() && value.toGenerator().device().is_cuda()) return inner(value.toGenerator());
  if (value.isNone() && may_be_generator) return inner(default_generator());
  return value;
}

inline void fallback(const c10::OperatorHandle& op, Stack* stack) {
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
  TORCH_CHECK(
      !(on_device && on_host) || mixes_devices(name),
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

}  // namespace virtual_gpu
