//! Addresses that cannot be listened on.

use std::io;
use std::net::SocketAddr;

/// Why nobody can listen on `address`, and what mends it.
#[must_use]
pub fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let kind = error.kind();
    let advice = if kind == io::ErrorKind::AddrInUse {
        "; is another process using it?".to_owned()
    } else if kind == io::ErrorKind::AddrNotAvailable {
        let every = if address.is_ipv4() { "0.0.0.0" } else { "[::]" };
        format!("; no interface of this machine has that address: name one of its own, or {every}:{} for all of them", address.port())
    } else if kind == io::ErrorKind::PermissionDenied {
        "; low ports are for root (CAP_NET_BIND_SERVICE): take one above 1023".to_owned()
    } else {
        String::new()
    };
    format!("cannot listen on {address}: {error}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_the_advice_that_fits_it() {
        let said = |address: &str, errno| cannot_listen(address.parse().unwrap(), &io::Error::from_raw_os_error(errno));
        assert_eq!(
            said("127.0.0.1:80", libc::EADDRINUSE),
            "cannot listen on 127.0.0.1:80: Address already in use (os error 98); is another process using it?"
        );
        assert!(said("127.0.0.1:80", libc::EACCES).ends_with("take one above 1023"));
        assert!(said("192.0.2.1:80", libc::EADDRNOTAVAIL).ends_with("name one of its own, or 0.0.0.0:80 for all of them"));
        assert!(said("[2001:db8::1]:80", libc::EADDRNOTAVAIL).ends_with("or [::]:80 for all of them"));
        for errno in [libc::EACCES, libc::EADDRNOTAVAIL, libc::EMFILE] {
            assert!(!said("127.0.0.1:80", errno).contains("another process"), "{errno}");
        }
    }
}
