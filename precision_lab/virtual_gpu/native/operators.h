// What is known of torch's operators by their names: which compute nothing, and what they read.
#pragma once
#include <ATen/core/function_schema.h>

#include <string>
#include <unordered_set>

namespace virtual_gpu {

using Table = std::unordered_set<std::string>;

// "add" of aten::add_.Tensor; operators of other libraries keep their library's name.
inline std::string name_of(const c10::FunctionSchema& schema) {
  std::string name = schema.name();
  if (name.rfind("aten::", 0) == 0) name.erase(0, 6);
  if (name.size() > 1 && name.back() == '_' && name[name.size() - 2] != '_') name.pop_back();
  return name;
}

// Nothing is computed: bytes are placed, chosen by index or mask, or filled, alike on every device. Random
// numbers count among fills: they are data, whatever generator made them.
inline bool computes_nothing(const std::string& name) {
  static const Table* table = new Table{"copy",
                                        "clone",
                                        "cat",
                                        "stack",
                                        "index",
                                        "_unsafe_index",
                                        "index_select",
                                        "gather",
                                        "take",
                                        "flip",
                                        "roll",
                                        "where",
                                        "masked_select",
                                        "masked_fill",
                                        "masked_scatter",
                                        "index_put",
                                        "_index_put_impl",
                                        "_unsafe_index_put",
                                        "index_fill",
                                        "index_copy",
                                        "scatter",
                                        "constant_pad_nd",
                                        "tril",
                                        "triu",
                                        "repeat",
                                        "repeat_interleave",
                                        "unfold_copy",
                                        "view_copy",
                                        "expand_copy",
                                        "as_strided_scatter",
                                        "select_scatter",
                                        "slice_scatter",
                                        "diagonal_scatter",
                                        "nonzero",
                                        "_reshape_copy",
                                        "_pin_memory",
                                        "resize",
                                        "resize_as",
                                        "_resize_output",
                                        "set",
                                        "fill",
                                        "zero",
                                        "zeros",
                                        "ones",
                                        "full",
                                        "empty",
                                        "empty_like",
                                        "scalar_tensor",
                                        "arange",
                                        "eye",
                                        "tril_indices",
                                        "triu_indices",
                                        "random",
                                        "uniform",
                                        "normal",
                                        "log_normal",
                                        "cauchy",
                                        "exponential",
                                        "geometric",
                                        "bernoulli",
                                        "randperm",
                                        "_local_scalar_dense",
                                        "equal",
                                        "is_set_to",
                                        "_efficientzerotensor"};
  return table->count(name) != 0;
}

// In place, it writes everything and reads nothing of it.
inline bool computes_all(const std::string& name) {
  static const Table* table =
      new Table{"fill",   "zero",        "copy",      "random",    "uniform", "normal", "log_normal",
                "cauchy", "exponential", "geometric", "bernoulli", "eye",     "arange"};
  return table->count(name) != 0;
}

// In place, it reads nothing of what it writes. What writes a part only and leaves the rest is taken to have
// written everything: nobody says which part, and a false alarm would be worse.
inline bool ignores_itself(const std::string& name) {
  static const Table* table =
      new Table{"masked_fill",       "masked_scatter", "index_put",  "_index_put_impl",
                "_unsafe_index_put", "index_fill",     "index_copy", "scatter"};
  return computes_all(name) || table->count(name) != 0;
}

// It reads some elements only, and which is in another tensor: what it leaves aside may be unwritten.
inline bool reads_some(const std::string& name) {
  static const Table* table = new Table{"index", "_unsafe_index", "index_select", "gather",
                                        "take",  "masked_select", "where",        "is_set_to"};
  return table->count(name) != 0;
}

// Only sizes or storages change; nothing in memory is read or written.
inline bool touches_nothing(const std::string& name) {
  static const Table* table = new Table{"resize", "resize_as", "_resize_output", "set", "is_set_to"};
  return table->count(name) != 0;
}

// Tensors of both devices may be among its arguments.
inline bool mixes_devices(const std::string& name) {
  static const Table* table =
      new Table{"index", "_unsafe_index",         "index_put", "_index_put_impl", "_unsafe_index_put",
                "copy",  "_pack_padded_sequence", "set",       "_copy_from",      "_copy_from_and_resize"};
  return table->count(name) != 0;
}

// Each device converts such numbers to the same bits: both types are integers, or both floating-point of 16
// bits and more (one correct rounding), or every number of the first is one of the second. What becomes of a
// number in FP8 depends on torch's version and the device: some saturate.
inline bool converts_alike(c10::ScalarType from, c10::ScalarType to) {
  using c10::ScalarType;
  if (from == to) return true;
  const auto wide = [](ScalarType t) {
    return t == ScalarType::Half || t == ScalarType::BFloat16 || t == ScalarType::Float ||
           t == ScalarType::Double;
  };
  const bool integers = c10::isIntegralType(from, true) && c10::isIntegralType(to, true);
  const bool small = from == ScalarType::Bool || from == ScalarType::Byte || from == ScalarType::Char ||
                     from == ScalarType::Float8_e4m3fn || from == ScalarType::Float8_e5m2 ||
                     from == ScalarType::Float8_e4m3fnuz || from == ScalarType::Float8_e5m2fnuz;
  return integers || (wide(from) && wide(to)) || (small && wide(to));
}

}  // namespace virtual_gpu
