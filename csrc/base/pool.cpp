#include "base/pool.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <thread>

#include "base/plain.h"

namespace leafkit {
namespace {

// One call's work, on the caller's stack. Everything but `work` and `parts` is read and written under the pool's lock.
struct Job {
  const std::function<void(std::int64_t)>& work;
  const std::int64_t parts;
  int seats;  // threads of the pool that may still join
  std::int64_t next = 0;
  int running = 0;  // threads of the pool that are inside
  std::exception_ptr first{};
};

class Pool {
 public:
  void run(Job& job) {
    std::unique_lock<std::mutex> hold(lock_);
    make_threads(job.seats);
    const auto place = jobs_.insert(jobs_.end(), &job);
    if (job.seats > 0) wake_.notify_all();
    take_parts(job, hold);
    jobs_.erase(place);  // nobody joins any more
    done_.wait(hold, [&] { return job.running == 0; });
  }

 private:
  // Parts are large (a block of queries, 64 rows), so that a lock a part costs nothing that can be measured.
  static void take_parts(Job& job, std::unique_lock<std::mutex>& hold) {
    while (job.next < job.parts) {
      const std::int64_t part = job.next++;
      hold.unlock();
      std::exception_ptr thrown;
      try {
        const PlainArithmetic plain;
        job.work(part);
      } catch (...) {
        thrown = std::current_exception();
      }
      hold.lock();
      if (thrown) {
        job.next = job.parts;
        if (!job.first) job.first = thrown;
      }
    }
  }

  void make_threads(int wanted) {
    for (; threads_ < wanted; ++threads_) std::thread([this] { serve(); }).detach();
  }

  [[noreturn]] void serve() {
    std::unique_lock<std::mutex> hold(lock_);
    for (;;) {
      const auto open = std::find_if(jobs_.begin(), jobs_.end(),
                                     [](const Job* job) { return job->seats > 0 && job->next < job->parts; });
      if (open == jobs_.end()) {
        wake_.wait(hold);
        continue;
      }
      Job& job = **open;
      --job.seats;
      ++job.running;
      take_parts(job, hold);
      if (--job.running == 0) done_.notify_all();
    }
  }

  std::mutex lock_;
  std::condition_variable wake_, done_;
  std::list<Job*> jobs_;
  int threads_ = 0;
};

// Never destroyed: its threads wait in it until the process ends. A child gets a new one, because the parent's threads
// do not exist there and its lock may have been held at the fork.
Pool* pool = nullptr;

Pool& the_pool() {
  static const bool ready = [] {
    pool = new Pool;
    pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
    return true;
  }();
  (void)ready;
  return *pool;
}

}  // namespace

void parallel(std::int64_t parts, int threads, const std::function<void(std::int64_t)>& work) {
  const int helpers = static_cast<int>(std::min<std::int64_t>(threads, parts)) - 1;
  if (helpers <= 0) {
    for (std::int64_t part = 0; part < parts; ++part) work(part);
    return;
  }
  Job job{work, parts, helpers};
  the_pool().run(job);
  if (job.first) std::rethrow_exception(job.first);
}

}  // namespace leafkit
