#include "cuda/emulation.h"

#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define LEAFKIT_FIBERS_TOLD 1
#endif

namespace leafkit::emulated {
namespace {

constexpr std::size_t kStack = 128 * 1024;
constexpr std::size_t kMostShared = 227 * 1024;  // of a block, compute capability 9.0
std::uint64_t seed = 0;

enum class State { ready, at_barrier, in_collective, done };

struct Fiber {
  ucontext_t context{};
  std::unique_ptr<char[]> stack;
  Place place;
  int warp = 0, lane = 0;
  State state = State::ready;
  Site site;
  unsigned mask = 0;
  void* brought = nullptr;
  Resolve resolve = nullptr;
  void* fake_stack = nullptr;
};

std::string told(const Site& site) {
  const std::string file = site.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line());
}

std::string told(const dim3& at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

class Block {
 public:
  Block(dim3 grid, dim3 size, dim3 at, std::size_t shared_bytes, const std::function<void()>& thread,
        std::mt19937_64& random)
      : thread_(thread), random_(random), shared_(new unsigned char[shared_bytes]), fibers_(size.x * size.y * size.z) {
    std::memset(shared_.get(), 0xff, shared_bytes);  // NaN, or -1
    for (std::size_t n = 0; n < fibers_.size(); ++n) {
      Fiber& fiber = fibers_[n];
      const auto number = static_cast<unsigned>(n);
      fiber.place = {dim3(number % size.x, number / size.x % size.y, number / size.x / size.y), at, size, grid};
      fiber.warp = static_cast<int>(n / 32), fiber.lane = static_cast<int>(n % 32);
      fiber.stack.reset(new char[kStack]);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, &Block::begin, 0);
    }
  }

  void run() {
    running_block = this;
    while (!failed()) {
      std::vector<Fiber*> ready;
      for (Fiber& fiber : fibers_)
        if (fiber.state == State::ready) ready.push_back(&fiber);
      if (ready.empty()) {
        if (std::all_of(fibers_.begin(), fibers_.end(), [](const Fiber& f) { return f.state == State::done; })) break;
        describe_halt();
        break;
      }
      // A random thread, and the others of its round behind it in a random order: every thread of a phase goes once.
      std::shuffle(ready.begin(), ready.end(), random_);
      for (Fiber* fiber : ready) {
        if (fiber->state != State::ready || failed()) continue;
        resume(*fiber);
        if (!failed()) release(*fiber);
      }
    }
    running_block = nullptr;
    if (failed()) throw std::runtime_error(error_);
  }

  const Place& place() const { return running_->place; }
  void* shared() { return shared_.get(); }

  void wait(State state, const Site& site) {
    running_->state = state;
    running_->site = site;
    leave();
  }
  void wait(unsigned mask, void* brought, Resolve resolve, const Site& site) {
    if (!(mask >> running_->lane & 1u)) fail("a lane calls a collective whose mask does not name it", site);
    running_->mask = mask, running_->brought = brought, running_->resolve = resolve;
    wait(State::in_collective, site);
  }
  [[noreturn]] void fail(const std::string& what, const Site& site) {
    error_ = what + " (thread " + told(running_->place.thread) + " of block " + told(running_->place.block) + ", " +
             told(site) + ")";
    leave();
    std::abort();  // such a fiber is not run again
  }
  static Block* running_block;

 private:
  bool failed() const { return !error_.empty(); }

  static void begin() {
    Block& block = *running_block;
#ifdef LEAFKIT_FIBERS_TOLD
    __sanitizer_finish_switch_fiber(nullptr, &block.main_bottom_, &block.main_size_);
#endif
    block.thread_();
    block.running_->state = State::done;
    block.leave();
  }

  void resume(Fiber& fiber) {
    running_ = &fiber;
#ifdef LEAFKIT_FIBERS_TOLD
    void* own = nullptr;
    __sanitizer_start_switch_fiber(&own, fiber.stack.get(), kStack);
#endif
    swapcontext(&main_, &fiber.context);
#ifdef LEAFKIT_FIBERS_TOLD
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
  }

  void leave() {
    Fiber& fiber = *running_;
#ifdef LEAFKIT_FIBERS_TOLD
    __sanitizer_start_switch_fiber(fiber.state == State::done ? nullptr : &fiber.fake_stack, main_bottom_, main_size_);
#endif
    swapcontext(&fiber.context, &main_);
#ifdef LEAFKIT_FIBERS_TOLD
    __sanitizer_finish_switch_fiber(fiber.fake_stack, &main_bottom_, &main_size_);
#endif
  }

  // What the last thread to arrive sets free.
  void release(const Fiber& last) {
    if (last.state == State::at_barrier) {
      for (const Fiber& fiber : fibers_)
        if (fiber.state != State::at_barrier) return;
      for (const Fiber& fiber : fibers_) {
        if (same(fiber.site, last.site)) continue;
        error_ = "threads of block " + told(last.place.block) + " wait at different barriers: " + told(fiber.site) +
                 " and " + told(last.site);
        return;
      }
      for (Fiber& fiber : fibers_) fiber.state = State::ready;
    } else if (last.state == State::in_collective) {
      void* brought[32] = {};
      std::vector<Fiber*> lanes;
      for (Fiber& fiber : fibers_) {
        if (fiber.warp != last.warp || !(last.mask >> fiber.lane & 1u)) continue;
        if (fiber.state != State::in_collective || fiber.mask != last.mask || fiber.resolve != last.resolve ||
            !same(fiber.site, last.site))
          return;  // not there yet; if it never comes, nothing is ready in the end
        brought[fiber.lane] = fiber.brought;
        lanes.push_back(&fiber);
      }
      if (lanes.size() != static_cast<std::size_t>(std::popcount(last.mask))) return;  // names lanes that do not exist
      last.resolve(brought, last.mask);
      for (Fiber* fiber : lanes) fiber->state = State::ready;
    }
  }

  static bool same(const Site& a, const Site& b) {
    return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
  }

  void describe_halt() {
    std::size_t done = 0;
    const Fiber *barrier = nullptr, *in = nullptr;
    for (const Fiber& fiber : fibers_) {
      if (fiber.state == State::done) ++done;
      if (fiber.state == State::at_barrier) barrier = &fiber;
      if (fiber.state == State::in_collective) in = &fiber;
    }
    error_ = "no thread of block " + told(fibers_[0].place.block) + " can go on: ";
    if (in != nullptr) {
      char mask[16];
      std::snprintf(mask, sizeof mask, "%08x", in->mask);
      error_ += "lane " + std::to_string(in->lane) + " of warp " + std::to_string(in->warp) +
                " waits in a collective at " + told(in->site) + " for lanes of the mask " + mask + " that do not come";
    } else {
      error_ += "the barrier at " + told(barrier->site) + " is not reached by all";
    }
    if (done > 0) error_ += "; " + std::to_string(done) + " threads have ended";
  }

  const std::function<void()>& thread_;
  std::mt19937_64& random_;
  std::unique_ptr<unsigned char[]> shared_;
  std::vector<Fiber> fibers_;
  ucontext_t main_{};
  Fiber* running_ = nullptr;
  std::string error_;
#ifdef LEAFKIT_FIBERS_TOLD
  const void* main_bottom_ = nullptr;
  std::size_t main_size_ = 0;
#endif
};

Block* Block::running_block = nullptr;

}  // namespace

const Place& here() { return Block::running_block->place(); }
void* shared_memory() { return Block::running_block->shared(); }
void barrier(const Site& site) { Block::running_block->wait(State::at_barrier, site); }
void collective(unsigned mask, void* brought, Resolve resolve, const Site& site) {
  Block::running_block->wait(mask, brought, resolve, site);
}
void fail(const std::string& what, const Site& site) { Block::running_block->fail(what, site); }
void set_seed(std::uint64_t value) { seed = value; }

void run(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64)
    throw std::runtime_error("a block of " + told(block) + " threads");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    throw std::runtime_error("a grid of " + told(grid) + " blocks");
  if (shared_bytes > kMostShared) throw std::runtime_error(std::to_string(shared_bytes) + " bytes of shared memory");
  std::mt19937_64 random(seed);
  std::vector<dim3> places;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) places.push_back(dim3(x, y, z));
  std::shuffle(places.begin(), places.end(), random);
  for (const dim3& at : places) Block(grid, block, at, shared_bytes, thread, random).run();
}

}  // namespace leafkit::emulated
