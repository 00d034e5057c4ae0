//! The program: everything is in the library, but for the settings that must be made before there is a second thread.

/// The most pools (arenas) of the C library's allocator. By default it has eight for each CPU, and each keeps what its threads have freed:
/// with a deep backlog a quarter of the resident memory. Few threads here allocate much at once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const POOLS: i32 = 2;

fn main() -> std::process::ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"].iter().all(|name| std::env::var_os(name).is_none()) {
        #[expect(unsafe_code, reason = "the allocator is set through the C library alone")]
        // SAFETY: it takes two numbers, and nothing else runs yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, POOLS);
        }
    }
    leave_no_core();
    callbackd::cli::main()
}

/// A crash must not write a file with what was in memory: signing keys are there.
fn leave_no_core() {
    let nothing = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "limits are set through the C library alone")]
    // SAFETY: it reads one struct, which lives that long. Lowering a limit is always allowed.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const nothing);
    }
}
