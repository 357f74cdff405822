// The few operators that the device does by itself: what makes tensors, copies them and gives them storages.
#pragma once
#include <ATen/ops/set_native.h>

#include "tensors.h"

namespace virtual_gpu {

using torch::jit::Stack;

inline std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// copy_(self, src, non_blocking): within the device, to it and from it.
inline void copy(const c10::OperatorHandle&, Stack* stack) {
  torch::jit::pop(*stack);
  const Tensor source = torch::jit::pop(*stack).toTensor(), self = torch::jit::pop(*stack).toTensor();
  Call call;
  Tensor to = call.host(self), from = call.host(source);
  at::AutoDispatchBelowADInplaceOrView below;
  if (source.is_cuda() && !self.is_cuda()) check_read(from, "a copy to the CPU");
  to.copy_(from);
  if (self.is_cuda()) {
    Names names;
    if (source.is_cuda()) {
      names = arena().names(from.storage().data());
      if (!converts_alike(source.scalar_type(), self.scalar_type()))
        names.insert("to(" + lower(c10::toString(self.scalar_type())) + ")");
    }
    if (source.is_cuda())
      copy_states(to, from);
    else
      set_written(to);
    add_names(to, names, true);
  }
  stack->emplace_back(self);
}

inline void check_index(const std::optional<c10::Device>& device) {
  TORCH_CHECK(!device || device->index() <= 0, "CUDA error: invalid device ordinal: ", *device,
              "; there is one emulated GPU");
}

inline void empty(const c10::OperatorHandle&, Stack* stack) {
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

inline void empty_strided(const c10::OperatorHandle&, Stack* stack) {
  torch::jit::drop(*stack, 1);  // pin_memory
  check_index(torch::jit::pop(*stack).toOptional<c10::Device>());
  torch::jit::drop(*stack, 1);  // layout
  const auto type = torch::jit::pop(*stack).toOptional<at::ScalarType>();
  const auto stride = torch::jit::pop(*stack).toDimVector(), size = torch::jit::pop(*stack).toDimVector();
  const auto dtype = type.value_or(c10::get_default_dtype_as_scalartype());
  stack->emplace_back(
      Tensor(at::detail::empty_strided_generic(size, stride, &device_allocator(), DEVICE, dtype)));
}

inline void set_part(const c10::OperatorHandle&, Stack* stack) {
  const auto stride = torch::jit::pop(*stack).toDimVector(), size = torch::jit::pop(*stack).toDimVector();
  const auto offset = torch::jit::pop(*stack).toInt();
  const auto storage = torch::jit::pop(*stack).toStorage();
  Tensor self = torch::jit::pop(*stack).toTensor();
  // No strides mean contiguous, and are told by a null pointer.
  const at::IntArrayRef strides = stride.empty() ? at::IntArrayRef() : at::IntArrayRef(stride);
  stack->emplace_back(at::native::set_storage_cpu_(self, storage, offset, size, strides));
}

inline void set_storage(const c10::OperatorHandle&, Stack* stack) {
  const auto storage = torch::jit::pop(*stack).toStorage();
  Tensor self = torch::jit::pop(*stack).toTensor();
  stack->emplace_back(at::native::set_(self, storage));
}

inline void set_tensor(const c10::OperatorHandle&, Stack* stack) {
  const Tensor source = torch::jit::pop(*stack).toTensor();
  Tensor self = torch::jit::pop(*stack).toTensor();
  stack->emplace_back(at::native::set_tensor_(self, source));
}

inline void set_empty(const c10::OperatorHandle&, Stack* stack) {
  Tensor self = torch::jit::pop(*stack).toTensor();
  Storage none(Storage::use_byte_size_t(), 0, &device_allocator(), true);
  stack->emplace_back(at::native::set_storage_cpu_(self, none, 0, {0}, {}));
}

inline void record_stream(const c10::OperatorHandle&, Stack* stack) { torch::jit::drop(*stack, 2); }

}  // namespace virtual_gpu
