//! What is asked of the kernel. All `unsafe` code of the package is here.

use std::time::Duration;

/// Registers the process for [`heavy_barrier`]. Panics where the kernel has no such call.
pub fn register_heavy_barrier() {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

/// The heavy barrier of `fanfold`: the kernel interrupts every core that runs a thread of this process.
pub fn heavy_barrier() {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

/// The system call of that name.
fn membarrier(command: libc::c_int) {
    // SAFETY: the call takes three integers and touches no memory of this process.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    assert_eq!(answer, 0, "membarrier({command}) failed");
}

/// The CPU time of the calling thread so far.
pub fn thread_cpu() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The CPU time of all threads of the process so far.
pub fn process_cpu() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// What a clock of the kernel says.
fn clock(which: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer.
    let answer = unsafe { libc::clock_gettime(which, &raw mut time) };
    assert_eq!(answer, 0, "clock_gettime failed");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Keeps the calling thread on one core.
pub fn pin(core: usize) {
    // SAFETY: all-zero bytes are a valid `cpu_set_t`, which consists of integers.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid, and the call ignores a core that does not fit into it.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is valid and of this size; 0 means the calling thread.
    let answer = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(answer, 0, "there is no core {core}");
}

/// How often the threads of this process gave up their cores so far: because they had to wait, and because
/// another thread was given the core.
pub fn switches() -> (u64, u64) {
    // SAFETY: all-zero bytes are a valid `rusage`, which consists of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the answer.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(answer, 0, "getrusage failed");
    (usage.ru_nvcsw as u64, usage.ru_nivcsw as u64)
}
