// The device's memory: allocations in one stretch of host memory, and what is known of each.
//
// Beside every byte stands another that says what it is (`emulator/memory.py`). Allocations have exactly the
// size that was asked for and lie at least GAP free bytes apart, so that an access beyond one meets a free
// byte.
#pragma once
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace virtual_gpu {

constexpr uint8_t FREE = 0, ALLOCATED = 1, WRITTEN = 3;
constexpr size_t ALIGNMENT = 512, GAP = 512, PAGE = 4096;
constexpr size_t LARGE = 1 << 25;    // from so many bytes on, what is freed is given back to the system
constexpr size_t WATCHED = 1 << 26;  // and what is asked for is compared with what the system has

using Names = std::set<std::string>;

struct Block {
  size_t size;  // as asked for
  size_t span;  // with what keeps it apart from the next
  Names names;  // of operators that computed something in it on the CPU
};

// Bytes that the system says it could give to programs; the largest number where it says nothing.
inline size_t available() {
  size_t kibibytes = SIZE_MAX / 1024;
  if (std::FILE* file = std::fopen("/proc/meminfo", "r")) {
    char line[256];
    while (std::fgets(line, sizeof line, file))
      if (std::sscanf(line, "MemAvailable: %zu kB", &kibibytes) == 1) break;
    std::fclose(file);
  }
  return kibibytes * 1024;
}

class Arena {
 public:
  void begin(uint64_t base, uint64_t states, size_t size) {
    base_ = reinterpret_cast<char*>(base);
    states_ = reinterpret_cast<uint8_t*>(states);
    size_ = size;
    // The first bytes stay free, so that an access before the first allocation is seen too.
    add_free(ALIGNMENT, size - ALIGNMENT);
  }

  bool contains(const void* at) const { return at >= base_ && at < base_ + size_; }

  uint8_t* states(const void* at) const { return states_ + (static_cast<const char*>(at) - base_); }

  void* allocate(size_t count) {
    std::lock_guard<std::mutex> lock(mutex_);
    const size_t span = (count + GAP + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    auto found = count < size_ ? by_size_.lower_bound({span, 0}) : by_size_.end();
    TORCH_CHECK_WITH(OutOfMemoryError, found != by_size_.end(), "out of memory: ", count,
                     " bytes do not fit into the emulated GPU's memory of ", size_, ", of which ", used_,
                     " are in use");
    // Each byte takes a second one that says what it is.
    TORCH_CHECK_WITH(OutOfMemoryError, count < WATCHED || 2 * count < available(), "out of memory: ", count,
                     " bytes of an emulated GPU take ", 2 * count, " of this machine's memory, which has ",
                     available(), " left");
    const auto [size, at] = *found;
    by_size_.erase(found);
    free_.erase(at);
    if (size > span) add_free(at + span, size - span);
    live_[at] = Block{count, span, {}};
    std::memset(states_ + at, ALLOCATED, count);
    used_ += count;
    peak_ = std::max(peak_, used_);
    return base_ + at;
  }

  void release(void* pointer) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = live_.find(static_cast<char*>(pointer) - base_);
    if (found == live_.end()) return;
    size_t at = found->first;
    const Block block = std::move(found->second);
    live_.erase(found);
    used_ -= block.size;
    // Pages that are given back read as zeros, which is FREE.
    const size_t first = (at + PAGE - 1) / PAGE * PAGE, last = (at + block.size) / PAGE * PAGE;
    if (block.size >= LARGE && first < last) {
      std::memset(states_ + at, FREE, first - at);
      std::memset(states_ + last, FREE, at + block.size - last);
      madvise(states_ + first, last - first, MADV_DONTNEED);
      madvise(base_ + first, last - first, MADV_DONTNEED);
    } else {
      std::memset(states_ + at, FREE, block.size);
    }
    size_t size = block.span;
    const auto next = free_.find(at + size);
    if (next != free_.end()) {
      size += next->second;
      take_free(next);
    }
    auto before = free_.lower_bound(at);
    if (before != free_.begin() && (--before)->first + before->second == at) {
      at = before->first;
      size += before->second;
      take_free(before);
    }
    add_free(at, size);
  }

  // The first byte of the allocation that a pointer points into, with its size; 0 where there is none.
  uint64_t allocation(const void* pointer, uint64_t* size) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = find(pointer);
    if (found == live_.end()) return 0;
    if (size) *size = found->second.size;
    return reinterpret_cast<uint64_t>(base_ + found->first);
  }

  Names names(const void* pointer) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = find(pointer);
    return found == live_.end() ? Names{} : found->second.names;
  }

  // Adds names to an allocation's; those it had are forgotten where `bytes` covers it all.
  void mark(const void* pointer, const Names& names, size_t bytes = 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = find(pointer);
    if (found == live_.end()) return;
    Block& block = found->second;
    if (bytes >= block.size)
      block.names = names;
    else
      block.names.insert(names.begin(), names.end());
  }

  // What an operator has read that nobody had written, each sentence once.
  void report(std::string sentence) {
    std::lock_guard<std::mutex> lock(mutex_);
    reports_.insert(std::move(sentence));
  }

  Names take_reports() {
    std::lock_guard<std::mutex> lock(mutex_);
    Names found;
    found.swap(reports_);
    return found;
  }

  uint64_t used() const { return used_; }
  uint64_t peak() const { return peak_; }
  void reset_peak() { peak_ = used_; }

 private:
  using Free = std::map<size_t, size_t>;

  std::map<size_t, Block>::iterator find(const void* pointer) {
    if (!contains(pointer)) return live_.end();
    const size_t at = static_cast<const char*>(pointer) - base_;
    auto found = live_.upper_bound(at);
    if (found == live_.begin()) return live_.end();
    --found;
    return at < found->first + std::max<size_t>(found->second.size, 1) ? found : live_.end();
  }

  void add_free(size_t at, size_t size) {
    free_[at] = size;
    by_size_.insert({size, at});
  }

  void take_free(Free::iterator range) {
    by_size_.erase({range->second, range->first});
    free_.erase(range);
  }

  char* base_ = nullptr;
  uint8_t* states_ = nullptr;
  size_t size_ = 0, used_ = 0, peak_ = 0;
  std::map<size_t, Block> live_;
  Free free_;
  std::set<std::pair<size_t, size_t>> by_size_;
  Names reports_;
  std::mutex mutex_;
};

// Never destroyed: tensors may outlive every static object.
inline Arena& arena() {
  static Arena* one = new Arena;
  return *one;
}

inline void release(void* pointer) { arena().release(pointer); }

// What torch allocates tensors of the device with.
struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t count) override {
    void* p = count ? arena().allocate(count) : nullptr;
    return {p, p, &release, c10::Device(c10::DeviceType::CUDA, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    std::memcpy(to, from, count);
  }
};

inline DeviceAllocator& device_allocator() {
  static DeviceAllocator* one = new DeviceAllocator;
  return *one;
}

// What torch allocates CPU tensors with: its own, except while an operator of the device is computed by CPU
// code in this thread, whose results are the device's.
struct HostAllocator final : c10::Allocator {
  static int& depth() {
    static thread_local int value = 0;
    return value;
  }
  static c10::Allocator*& plain() {
    static c10::Allocator* value = nullptr;
    return value;
  }
  static void release_any(void* pointer) {
    if (arena().contains(pointer))
      arena().release(pointer);
    else
      plain()->raw_deleter()(pointer);
  }
  c10::DataPtr allocate(size_t count) override {
    if (!depth()) return plain()->allocate(count);
    void* p = count ? arena().allocate(count) : nullptr;
    return {p, p, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release_any; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    std::memcpy(to, from, count);
  }
};

struct OnDevice {
  OnDevice() { ++HostAllocator::depth(); }
  ~OnDevice() { --HostAllocator::depth(); }
};

}  // namespace virtual_gpu
