// Tensors of the device under the CPU's name: the same bytes, and what is known of each.
#pragma once
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/bit_cast.h>

#include <vector>

#include "device.h"
#include "operators.h"

namespace virtual_gpu {

using at::Tensor;
using c10::Storage;
using c10::StorageImpl;

inline const c10::DispatchKeySet HOST(c10::DispatchKey::CPU), DEVICE(c10::DispatchKey::CUDA);

// A storage with another's bytes, which it keeps alive, on the given device.
inline Storage shared(const Storage& of, c10::Device device, c10::Allocator* allocator) {
  auto keep = [](void* context) { delete static_cast<Storage*>(context); };
  c10::DataPtr data(const_cast<void*>(of.data()), new Storage(of), keep, device);
  return Storage(Storage::use_byte_size_t(), of.nbytes(), std::move(data), allocator, true);
}

inline Tensor tensor_of(Storage storage, c10::DispatchKeySet keys, const Tensor& like) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, like.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.is_conj()) made._set_conj(true);
  if (like.is_neg()) made._set_neg(true);
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) made.unsafeGetTensorImpl()->set_wrapped_number(true);
  return made;
}

// The tensors of one call, each under its two names: the device's, and the CPU's with the same bytes.
class Call {
 public:
  Tensor host(const Tensor& t) {
    if (!t.defined() || !t.is_cuda()) return t;
    TORCH_CHECK_NOT_IMPLEMENTED(t.layout() == c10::kStrided && !t.is_nested() && !t.is_quantized(),
                                "an emulated GPU has dense tensors only, not ", t.layout(),
                                t.is_nested() ? " nested" : "", t.is_quantized() ? " quantized" : "");
    for (const auto& [device, alias] : tensors_)
      if (device.is_same(t)) return alias;
    tensors_.emplace_back(t, tensor_of(host_storage(t.storage()), HOST, t));
    return tensors_.back().second;
  }

  // What became of a tensor of the CPU's: the argument it is, a view of one, or something new.
  Tensor device(const Tensor& t) {
    if (!t.defined() || !t.is_cpu()) return t;
    for (const auto& [device, alias] : tensors_)
      if (alias.is_same(t)) return device;
    // A view is an inference tensor if what it is a view of is one, wherever it is made.
    for (const auto& [device, alias] : tensors_)
      if (alias.storage().unsafeGetStorageImpl() == t.storage().unsafeGetStorageImpl()) {
        c10::InferenceMode like(device.is_inference());
        return tensor_of(device_storage(t.storage()), DEVICE, t);
      }
    return tensor_of(device_storage(t.storage()), DEVICE, t);
  }

  bool is_argument(const Tensor& t) const {
    return std::any_of(storages_.begin(), storages_.end(), [&](const auto& pair) {
      return pair.second.unsafeGetStorageImpl() == t.storage().unsafeGetStorageImpl();
    });
  }

  // Arguments that were resized or given another storage become so under both names.
  void settle() {
    for (auto& [device, alias] : tensors_) {
      auto* impl = device.unsafeGetTensorImpl();
      const auto found = device_storage(alias.storage());
      if (found.unsafeGetStorageImpl() != device.storage().unsafeGetStorageImpl())
        impl->set_storage_keep_dtype(found);
      if (alias.nbytes() && alias.storage().data() != device.storage().data()) {
        auto fresh = shared(alias.storage(), the_device(), &device_allocator());
        auto* storage = device.storage().unsafeGetStorageImpl();
        storage->set_data_ptr_noswap(std::move(fresh.unsafeGetStorageImpl()->mutable_data_ptr()));
        storage->set_nbytes(alias.storage().nbytes());
      }
      if (alias.sizes() != device.sizes() || alias.strides() != device.strides() ||
          alias.storage_offset() != device.storage_offset())
        impl->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
    }
  }

  const std::vector<std::pair<Tensor, Tensor>>& tensors() const { return tensors_; }

 private:
  Storage host_storage(const Storage& device) {
    for (const auto& [known, alias] : storages_)
      if (known.unsafeGetStorageImpl() == device.unsafeGetStorageImpl()) return alias;
    storages_.emplace_back(device, shared(device, c10::Device(c10::DeviceType::CPU), c10::GetCPUAllocator()));
    return storages_.back().second;
  }

  Storage device_storage(const Storage& host) {
    for (const auto& [device, alias] : storages_)
      if (alias.unsafeGetStorageImpl() == host.unsafeGetStorageImpl()) return device;
    Storage made;
    if (!host.nbytes() || arena().contains(host.data())) {
      made = shared(host, the_device(), &device_allocator());
    } else {  // memory that did not come from the CPU's allocator
      made = Storage(Storage::use_byte_size_t(), host.nbytes(), &device_allocator(), true);
      std::memcpy(made.mutable_data(), host.data(), host.nbytes());
    }
    storages_.emplace_back(made, host);
    return made;
  }

  std::vector<std::pair<Tensor, Tensor>> tensors_;
  std::vector<std::pair<Storage, Storage>> storages_;  // the device's, the host's
};

// The states of a tensor's bytes, as a tensor laid out like it.
inline Tensor states_of(const Tensor& host) {
  const auto width = host.itemsize();
  const auto type = width == 1   ? at::kByte
                    : width == 2 ? at::kShort
                    : width == 4 ? at::kInt
                    : width == 8 ? at::kLong
                                 : at::kComplexDouble;
  const auto& storage = host.storage();
  c10::DataPtr data(arena().states(storage.data()), c10::Device(c10::DeviceType::CPU));
  Storage states(Storage::use_byte_size_t(), storage.nbytes(), std::move(data), nullptr, false);
  auto made =
      at::detail::make_tensor<c10::TensorImpl>(std::move(states), HOST, c10::scalarTypeToTypeMeta(type));
  made.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
  return made;
}

inline bool has_states(const Tensor& t) {
  return t.defined() && t.nbytes() && arena().contains(t.storage().data());
}

// What all bytes of an element have in common, as a number of the type of `states_of`.
inline at::Scalar of_all_bytes(uint8_t state, int64_t width) {
  const uint64_t bits = state * 0x0101010101010101;
  if (width < 16) return static_cast<int64_t>(bits >> (64 - 8 * width));
  return c10::complex<double>(c10::bit_cast<double>(bits), c10::bit_cast<double>(bits));
}

// Whether some byte is one that nobody has written; `states` is dense.
inline bool has_unwritten(const Tensor& states) {
  return std::memchr(states.const_data_ptr(), ALLOCATED, states.nbytes()) != nullptr;
}

// Records a read of what nobody has written.
inline void check_read(const Tensor& host, const std::string& name) {
  if (!has_states(host)) return;
  Tensor states = states_of(host);
  if (!states.is_non_overlapping_and_dense()) states = states.contiguous();
  if (!has_unwritten(states)) return;
  const auto* first = static_cast<const uint8_t*>(states.const_data_ptr());
  const size_t count = states.nbytes();
  const auto unwritten = std::count(first, first + count, ALLOCATED);
  arena().report(name + " read " + std::to_string(unwritten) + " bytes, of " + std::to_string(count) +
                 ", that nobody has written");
}

inline void set_written(const Tensor& host) {
  if (!has_states(host)) return;
  Tensor states = states_of(host);
  if (states.is_non_overlapping_and_dense())
    std::memset(states.mutable_data_ptr(), WRITTEN, states.nbytes());
  else
    states.fill_(of_all_bytes(WRITTEN, states.itemsize()));
}

// What is unwritten stays so in its copy; converted, an element is so if some byte of it was. A padded buffer
// may be converted whole and its tail cut off then.
inline void copy_states(const Tensor& to, const Tensor& from) {
  if (!has_states(from)) return set_written(to);
  if (!has_states(to)) return;
  Tensor states = states_of(from);
  if (to.scalar_type() == from.scalar_type()) {
    states_of(to).copy_(states);
    return;
  }
  set_written(to);
  if (!states.is_non_overlapping_and_dense()) states = states.contiguous();
  if (!has_unwritten(states)) return;
  const Tensor unwritten = states.ne(of_all_bytes(WRITTEN, states.itemsize()));
  states_of(to).masked_fill_(unwritten, of_all_bytes(ALLOCATED, to.itemsize()));
}

// Adds names to the allocation of what was written; if that is all of it, what was there before is forgotten.
inline void add_names(const Tensor& host, const Names& names, bool replaces) {
  if (!has_states(host)) return;
  const bool whole = replaces && host.is_non_overlapping_and_dense();
  arena().mark(host.storage().data(), names, whole ? host.nbytes() : 0);
}

}  // namespace virtual_gpu
