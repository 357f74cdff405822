// What torch asks of a CUDA device: there is one, it is always ready, and its streams are the calling thread.
#pragma once
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "arena.h"

namespace virtual_gpu {

inline c10::Device the_device() { return c10::Device(c10::DeviceType::CUDA, 0); }

struct Guard : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, the_device()); }
  c10::Device exchangeDevice(c10::Device) const override { return the_device(); }
  c10::Device getDevice() const override { return the_device(); }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int = 0) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    *event = const_cast<Guard*>(this);  // any pointer but null: the event has happened
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};

// Random numbers of the device: those of a CPU generator of its own.
struct Generator final : c10::GeneratorImpl {
  explicit Generator(at::Generator inner)
      : c10::GeneratorImpl(the_device(), c10::DispatchKeySet(c10::DispatchKey::CUDA)),
        inner(std::move(inner)) {}
  void set_current_seed(uint64_t seed) override { inner.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { inner.set_offset(offset); }
  uint64_t get_offset() const override { return inner.get_offset(); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& state) override { inner.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return inner.unsafeGetGeneratorImpl()->get_state();
  }
  at::Generator inner;

 private:
  c10::GeneratorImpl* clone_impl() const override { return new Generator(inner.clone()); }
};

inline at::Generator new_generator() {
  return at::Generator(c10::make_intrusive<Generator>(at::detail::createCPUGenerator()));
}

inline const at::Generator& default_generator() {
  static const at::Generator* one = new at::Generator(new_generator());
  return *one;
}

// Set by Python, which has no other way to the default generator: the next new one is that.
inline bool& next_is_default() {
  static bool value = false;
  return value;
}

// Without `override` where an older or newer torch may not have the function.
struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex current_device() const override { return 0; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  int getNumGPUs() const override { return 1; }
  long versionCuDNN() const override { return 0; }
  long versionRuntimeCuDNN() const { return 0; }
  void deviceSynchronize(c10::DeviceIndex) const override {}
  c10::Device getDeviceFromPtr(void*) const override { return the_device(); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  c10::Allocator* getCUDADeviceAllocator() const override { return &device_allocator(); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex = -1) const override {
    return default_generator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex = -1) const override {
    return std::exchange(next_is_default(), false) ? default_generator() : new_generator();
  }
};

}  // namespace virtual_gpu
