//! Which addresses and names may be dialled (design §4.7; SECURITY.md). Judges; the egress edge asks.
//!
//! A URL is judged as the URL standard normalised it, never as text: `2130706433`, `0x7f.1`, full-width digits and a dot at the end are one
//! and the same address there, and only [`url::Host`] says whether a host is an address or a name. A deny list of spellings was refused: it
//! never ends. For IPv6 the table lists what is allowed, because its special ranges keep growing inside what was unassigned.
//!
//! Invariants: [`AddressPolicy::default`] lets nothing but the public internet through; nothing that an operator allows reaches link-local
//! or metadata addresses, neither plain nor inside an IPv6 address that a gateway would translate. Not here: looking names up, and judging
//! what a lookup yields address by address (`egress::dial`).

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Why an address, a name or a URL may not be dialled: the label `reason` of `callbackd_egress_blocked_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// A private, reserved or special address outside `allow_networks`.
    #[error("the address is private or reserved; egress.allow_networks can allow it")]
    Address,
    /// Link-local and metadata addresses, which nothing can allow.
    #[error("link-local and metadata addresses are never dialled, whatever is allowed: name another host")]
    Metadata,
    /// A refused name: one label, `localhost`, `.local`, `.internal`, …, outside `allow_names`.
    #[error("the name is local or special; egress.allow_names can allow it")]
    Name,
    /// A port of another protocol, or outside `ports`.
    #[error("the port is one that no browser would call (mail, DNS, IRC, …), or is not in egress.ports")]
    Port,
    /// Not http or https, user info, no host, port 0.
    #[error("not a plain URL: http or https, a host, no user name or password, a port from 1 to 65535")]
    Url,
}

impl Refusal {
    /// Every refusal, in the order of the enum.
    pub const ALL: [Self; 5] = [Self::Address, Self::Metadata, Self::Name, Self::Port, Self::Url];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Metadata => "metadata",
            Self::Name => "name",
            Self::Port => "port",
            Self::Url => "url",
        }
    }
}

/// The egress policy: what operators allowed beyond the public internet, and to which ports they narrowed it.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    /// Networks that may be dialled though private.
    pub allow_networks: Vec<IpNet>,
    /// Name suffixes that may be dialled though refused otherwise, lower case, without a leading dot.
    pub allow_names: Vec<String>,
    /// The only ports that may be dialled; none: all but those of other protocols, which nothing allows.
    pub ports: Vec<RangeInclusive<u16>>,
}

/// Why a network among `allow_networks` does something else than was meant, in words to be said after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkDoubt {
    /// Whatever is in it is never dialled.
    #[error("has no effect: link-local, metadata and unspecified addresses are never dialled, whatever is allowed; remove it")]
    Never,
    /// IPv4 in the clothes of IPv6.
    #[error("has no effect: such addresses are judged as the IPv4 inside; write that network")]
    Mapped,
    /// All addresses of a family.
    #[error("lets every template reach all that this machine can reach, itself included: list the networks that receivers are in")]
    Everything,
}

impl NetworkDoubt {
    /// What is doubtful about `network`, which has no host bits; `None`: nothing.
    #[must_use]
    pub fn of(network: IpNet) -> Option<Self> {
        if network.prefix_len() == 0 {
            return Some(Self::Everything);
        }
        match network {
            IpNet::V4(network) => never_net_v4(network).then_some(Self::Never),
            IpNet::V6(network) if MAPPED.contains(&network) => Some(Self::Mapped),
            IpNet::V6(network) => never_net_v6(network).then_some(Self::Never),
        }
    }
}

fn never_net_v4(network: Ipv4Net) -> bool {
    network == v4(0, 0, 0, 0, 32) || NEVER_V4.iter().any(|never| never.contains(&network))
}

fn never_net_v6(network: Ipv6Net) -> bool {
    let inside = || {
        let with_v4_last = [NAT64, COMPATIBLE, TRANSLATED].iter().any(|prefix| prefix.contains(&network));
        let length = network.prefix_len().checked_sub(96).filter(|_| with_v4_last)?;
        Ipv4Net::new(last_four(network.network()), length).ok()
    };
    network.network().is_unspecified() && network.prefix_len() == 128
        || NEVER_V6.iter().any(|never| never.contains(&network))
        || inside().is_some_and(|network| NEVER_V4.iter().any(|never| never.contains(&network)))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(groups: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = groups;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// IANA's special-purpose registry for IPv4, multicast and what is reserved; 255.255.255.255 lies in 240/4.
const DENIED_V4: [Ipv4Net; 18] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 31, 196, 0, 24),
    v4(192, 52, 193, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(192, 175, 48, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// Link-local with the metadata services of most clouds; Azure's, Alibaba's and the older one of Oracle, which lie elsewhere.
const NEVER_V4: [Ipv4Net; 4] = [v4(169, 254, 0, 0, 16), v4(168, 63, 129, 16, 32), v4(100, 100, 100, 200, 32), v4(192, 0, 0, 192, 32)];

/// Link-local, and the metadata services of AWS and Google.
const NEVER_V6: [Ipv6Net; 3] =
    [v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128)];

/// Global unicast: the only IPv6 that is dialled without being allowed.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What is special inside it: protocol assignments (Teredo, ORCHID), documentation, 6to4, AS112, documentation again.
const DENIED_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

/// NAT64's well-known prefix (RFC 6052): the IPv4 is in the last 32 bits.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// IPv4-mapped addresses (RFC 4291): the IPv4 is in the last 32 bits, and is what is judged.
const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
/// NAT64's prefix for local use (RFC 8215): where the IPv4 is depends on the gateway's prefix length.
const NAT64_LOCAL: Ipv6Net = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
/// 6to4 (RFC 3056): the IPv4 is in bits 16–47.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
/// Teredo (RFC 4380): the server's IPv4 is in bits 32–63, the client's in the last 32, inverted.
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);
/// IPv4-translated addresses (RFC 2765): the IPv4 is in the last 32 bits.
const TRANSLATED: Ipv6Net = v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96);
/// IPv4-compatible addresses, long deprecated: the IPv4 is in the last 32 bits.
const COMPATIBLE: Ipv6Net = v6([0, 0, 0, 0, 0, 0, 0, 0], 96);

/// Ports of other protocols, which could take what is sent for theirs: the Fetch standard's "bad ports", in order.
const BLOCKED_PORTS: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110, 111, 113, 115, 117,
    119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636,
    989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Suffixes that mean "this machine", "this network" or a metadata service.
const REFUSED_NAMES: [&str; 14] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "lan",
    "home.arpa",
    "svc",
    "cluster.local",
    "onion",
    "metadata.goog",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "metadata.platformequinix.com",
];

impl AddressPolicy {
    /// Whether `address` may be dialled; mapped addresses are judged as the IPv4 inside.
    ///
    /// The unspecified addresses are refused whatever is allowed: dialling them reaches another address than the one judged.
    ///
    /// # Errors
    /// `Address` or `Metadata`.
    pub fn judge_address(&self, address: IpAddr) -> Result<(), Refusal> {
        match address.to_canonical() {
            IpAddr::V4(address) => self.judge_v4(address),
            IpAddr::V6(address) => self.judge_v6(address),
        }
    }

    fn judge_v4(&self, address: Ipv4Addr) -> Result<(), Refusal> {
        if NEVER_V4.iter().any(|net| net.contains(&address)) {
            return Err(Refusal::Metadata);
        }
        let denied = DENIED_V4.iter().any(|net| net.contains(&address));
        let allowed = !denied || (!address.is_unspecified() && self.allows(IpAddr::V4(address)));
        if allowed { Ok(()) } else { Err(Refusal::Address) }
    }

    fn judge_v6(&self, address: Ipv6Addr) -> Result<(), Refusal> {
        if NEVER_V6.iter().any(|net| net.contains(&address)) || embedded(address).iter().flatten().any(never_v4) {
            return Err(Refusal::Metadata);
        }
        let public = GLOBAL_V6.contains(&address) && !DENIED_V6.iter().any(|net| net.contains(&address));
        if !public && (address.is_unspecified() || !self.allows(IpAddr::V6(address))) {
            return Err(Refusal::Address);
        }
        if NAT64.contains(&address) {
            // Allowing the prefix says that the gateway may be used, not that what lies behind it may all be reached.
            return self.judge_v4(last_four(address));
        }
        Ok(())
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow_networks.iter().any(|net| net.contains(&address))
    }

    /// Whether `name` (no IP literal) may be looked up. One dot at the end is not part of the name.
    ///
    /// # Errors
    /// `Name`.
    pub fn judge_name(&self, name: &str) -> Result<(), Refusal> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let well_formed = name.len() <= 253 && name.split('.').all(|label| !label.is_empty() && label.len() <= 63);
        let Some(last) = name.rsplit('.').next().filter(|_| well_formed) else { return Err(Refusal::Name) };
        if is_number(last) {
            return Err(Refusal::Name);
        }
        if self.allow_names.iter().any(|suffix| has_suffix(name, suffix)) {
            return Ok(());
        }
        let refused = last.len() == name.len() || REFUSED_NAMES.iter().any(|suffix| has_suffix(name, suffix));
        if refused { Err(Refusal::Name) } else { Ok(()) }
    }

    /// Whether `port` may be dialled.
    ///
    /// # Errors
    /// `Port`.
    pub fn judge_port(&self, port: u16) -> Result<(), Refusal> {
        let narrowed = self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(&port));
        if narrowed && BLOCKED_PORTS.binary_search(&port).is_err() { Ok(()) } else { Err(Refusal::Port) }
    }

    /// Whether `url` may be dialled as far as the URL alone tells: scheme, user info, port, host literal, name. Asked when a template is
    /// registered and before every send.
    ///
    /// # Errors
    /// `Url` when it is no plain URL, `Port`; for a name `Name`, for an address `Address` or `Metadata`.
    pub fn judge_url(&self, url: &url::Url) -> Result<(), Refusal> {
        let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        let Some(port) = url.port_or_known_default().filter(|port| plain && *port != 0) else { return Err(Refusal::Url) };
        self.judge_port(port)?;
        match url.host() {
            Some(url::Host::Domain(name)) => self.judge_name(name),
            Some(url::Host::Ipv4(address)) => self.judge_address(IpAddr::V4(address)),
            Some(url::Host::Ipv6(address)) => self.judge_address(IpAddr::V6(address)),
            None => Err(Refusal::Url),
        }
    }
}

fn never_v4(address: &Ipv4Addr) -> bool {
    NEVER_V4.iter().any(|net| net.contains(address))
}

/// The IPv4 addresses that a gateway on the way could translate `address` to, or unwrap it for.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 5] {
    let [a, b, c, d] = by_prefix(address);
    [a, b, c, d, isatap(address)]
}

/// The IPv4 address in the interface identifier of ISATAP (RFC 5214), under whatever prefix.
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let o = address.octets();
    // The bits "universal" and "group" are the sender's to choose.
    (o[8] & !3 == 0 && o[9..12] == [0, 0x5e, 0xfe]).then(|| last_four(address))
}

fn by_prefix(address: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let o = address.octets();
    let at = |bytes: [usize; 4]| Some(Ipv4Addr::from(bytes.map(|at| o[at])));
    if NAT64.contains(&address) || COMPATIBLE.contains(&address) || TRANSLATED.contains(&address) {
        [at([12, 13, 14, 15]), None, None, None]
    } else if NAT64_LOCAL.contains(&address) {
        // By the prefix lengths of RFC 6052: /96, /48, /56, /64. Byte 8 is left out.
        [at([12, 13, 14, 15]), at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12])]
    } else if SIX_TO_FOUR.contains(&address) {
        [at([2, 3, 4, 5]), None, None, None]
    } else if TEREDO.contains(&address) {
        [at([4, 5, 6, 7]), Some(!last_four(address)), None, None]
    } else {
        [None; 4]
    }
}

fn last_four(address: Ipv6Addr) -> Ipv4Addr {
    let o = address.octets();
    Ipv4Addr::new(o[12], o[13], o[14], o[15])
}

/// Whether some resolver would take a name that ends in `label` for an address (URL standard, "ends in a number").
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit()) || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn has_suffix(name: &str, suffix: &str) -> bool {
    let Some(cut) = name.len().checked_sub(suffix.len()) else { return false };
    let (Some(head), Some(tail)) = (name.as_bytes().get(..cut), name.as_bytes().get(cut..)) else { return false };
    !tail.is_empty() && tail.eq_ignore_ascii_case(suffix.as_bytes()) && head.last().is_none_or(|b| *b == b'.')
}

#[cfg(test)]
mod tests {
    use super::{AddressPolicy, BLOCKED_PORTS, NetworkDoubt, Refusal};
    use url::Url;

    const OK: Result<(), Refusal> = Ok(());
    const ADDRESS: Result<(), Refusal> = Err(Refusal::Address);
    const METADATA: Result<(), Refusal> = Err(Refusal::Metadata);
    const NAME: Result<(), Refusal> = Err(Refusal::Name);
    const PORT: Result<(), Refusal> = Err(Refusal::Port);
    const URL: Result<(), Refusal> = Err(Refusal::Url);

    fn allowing(networks: &[&str], names: &[&str]) -> AddressPolicy {
        AddressPolicy {
            allow_networks: networks.iter().map(|n| n.parse().unwrap()).collect(),
            allow_names: names.iter().map(|n| (*n).to_owned()).collect(),
            ports: Vec::new(),
        }
    }

    #[test]
    fn a_network_that_allows_nothing_or_everything_is_doubted() {
        use NetworkDoubt::{Everything, Mapped, Never};
        for (network, expected) in [
            ("10.20.0.0/16", None),
            ("127.0.0.0/8", None),
            ("100.64.0.0/10", None),
            ("168.63.0.0/16", None),
            ("169.0.0.0/8", None),
            ("0.0.0.0/1", None),
            ("fd00::/8", None),
            ("fd00:ec3::/32", None),
            ("64:ff9b::/96", None),
            ("64:ff9b::a00:0/104", None),
            ("169.254.0.0/16", Some(Never)),
            ("169.254.169.254/32", Some(Never)),
            ("168.63.129.16/32", Some(Never)),
            ("0.0.0.0/32", Some(Never)),
            ("fe80::/10", Some(Never)),
            ("fe80::/64", Some(Never)),
            ("fd00:ec2::254/128", Some(Never)),
            ("::/128", Some(Never)),
            ("64:ff9b::a9fe:0/112", Some(Never)),
            ("::ffff:10.0.0.0/104", Some(Mapped)),
            ("0.0.0.0/0", Some(Everything)),
            ("::/0", Some(Everything)),
        ] {
            assert_eq!(NetworkDoubt::of(network.parse().unwrap()), expected, "{network}");
        }
        // As it is judged: what is doubted as without effect lets nothing through.
        for (network, address) in [("169.254.0.0/16", "169.254.1.1"), ("::ffff:10.0.0.0/104", "::ffff:10.0.0.1"), ("0.0.0.0/32", "0.0.0.0")]
        {
            assert!(allowing(&[network], &[]).judge_address(address.parse().unwrap()).is_err(), "{network}");
        }
    }

    #[test]
    fn every_spelling_of_a_forbidden_host_is_refused_and_plain_ones_pass() {
        let table = [
            ("http://hooks.example.com/cb", OK),
            ("https://hooks.example.com/cb?tenant=7", OK),
            ("https://hooks.example.com:8443/cb", OK),
            ("https://hooks.example.com./cb", OK),
            ("HTTPS://HOOKS.EXAMPLE.COM/", OK),
            ("https://bücher.example/cb", OK),
            ("https://under_score.example.com/", OK),
            ("http://93.184.216.34/", OK),
            ("http://1.1.1.1:8080/", OK),
            ("http://0x5db8d822/", OK),
            ("http://[2606:4700:4700::1111]/", OK),
            ("http://[::ffff:93.184.216.34]/", OK),
            ("http://127.0.0.1/", ADDRESS),
            ("http://127.0.0.1:8080/", ADDRESS),
            ("http://127.0.0.1./", ADDRESS),
            ("http://127.1/", ADDRESS),
            ("http://127.0.1/", ADDRESS),
            ("http://2130706433/", ADDRESS),
            ("http://017700000001/", ADDRESS),
            ("http://0x7f000001/", ADDRESS),
            ("http://0x7f.1/", ADDRESS),
            ("http://0x7F.0.0x0.1/", ADDRESS),
            ("http://0177.0.0.1/", ADDRESS),
            ("http://127.000.000.001/", ADDRESS),
            ("http://%31%32%37.0.0.1/", ADDRESS),
            ("http://１２７.０.０.１/", ADDRESS),
            ("http://①②⑦.⓪.⓪.①/", ADDRESS),
            ("http://127。0。0。1/", ADDRESS),
            ("http:127.0.0.1/", ADDRESS),
            ("http:\\\\127.0.0.1\\cb", ADDRESS),
            ("ht\ttp://127.0.0.1/", ADDRESS),
            ("http://0/", ADDRESS),
            ("http://0.0.0.0/", ADDRESS),
            ("http://[::]/", ADDRESS),
            ("http://[::1]/", ADDRESS),
            ("http://[0:0:0:0:0:0:0:1]/", ADDRESS),
            ("http://[::ffff:127.0.0.1]/", ADDRESS),
            ("http://[::ffff:7f00:1]/", ADDRESS),
            ("http://[::127.0.0.1]/", ADDRESS),
            ("http://[64:ff9b::127.0.0.1]/", ADDRESS),
            ("http://[64:ff9b::5db8:d822]/", ADDRESS),
            ("http://[64:ff9b:1::a00:1]/", ADDRESS),
            ("http://[2002:7f00:1::]/", ADDRESS),
            ("http://[2001:0:4136:e378::]/", ADDRESS),
            ("http://[fc00::1]/", ADDRESS),
            ("http://[fec0::1]/", ADDRESS),
            ("http://[ff02::1]/", ADDRESS),
            ("http://10.0.0.1/", ADDRESS),
            ("http://012.1/", ADDRESS),
            ("http://172.16.9.9/", ADDRESS),
            ("http://192.168.1.1/", ADDRESS),
            ("http://100.100.100.200/", METADATA),
            ("http://255.255.255.255/", ADDRESS),
            ("http://169.254.169.254/latest/meta-data/", METADATA),
            ("http://2852039166/", METADATA),
            ("http://0xa9fea9fe/", METADATA),
            ("http://[::ffff:169.254.169.254]/", METADATA),
            ("http://[64:ff9b::169.254.169.254]/", METADATA),
            ("http://[64:ff9b:1:a9fe:a9:fe00::]/", METADATA),
            ("http://[2002:a9fe:a9fe::]/", METADATA),
            ("http://[fe80::1]/", METADATA),
            ("http://[fd00:ec2::254]/", METADATA),
            ("http://[fd00:ec2::23]/", METADATA),
            ("http://168.63.129.16/", METADATA),
            ("http://localhost/", NAME),
            ("http://LOCALHOST./", NAME),
            ("http://ｌｏｃａｌｈｏｓｔ/", NAME),
            ("http://a.localhost/", NAME),
            ("http://intranet/", NAME),
            ("http://printer.local/", NAME),
            ("http://metadata.google.internal/", NAME),
            ("http://metadata.goog/", NAME),
            ("http://metadata.tencentyun.com/", NAME),
            ("http://nas.lan/", NAME),
            ("http://router.home.arpa/", NAME),
            ("http://shop.default.svc/", NAME),
            ("http://shop.default.svc.cluster.local/", NAME),
            ("http://abcdefghij.onion/", NAME),
            ("http://hooks..example.com/", NAME),
            ("http://.example.com/", NAME),
            ("http://user@hooks.example.com/", URL),
            ("http://user:pw@127.0.0.1/", URL),
            ("http://:pw@hooks.example.com/", URL),
            ("http://hooks.example.com:0/", URL),
            ("http://hooks.example.com:25/", PORT),
            ("https://hooks.example.com:53/", PORT),
            ("http://hooks.example.com:06667/", PORT),
            ("http://127.0.0.1:22/", PORT),
            ("ftp://hooks.example.com/", URL),
            ("file:///etc/passwd", URL),
            ("unix:/run/docker.sock", URL),
            ("gopher://127.0.0.1:70/_", URL),
            ("data:text/plain,x", URL),
            ("javascript:1", URL),
        ];
        let policy = AddressPolicy::default();
        for (text, expected) in table {
            assert_eq!(policy.judge_url(&Url::parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_by_the_standard_never_reaches_the_guard() {
        for text in [
            "http://",
            "http://[::1",
            "http://[::1%25eth0]/",
            "http://256.1.1.1/",
            "http://1.2.3.4.5/",
            "http://a b/",
            "http://a.1/",
            "//a.b/",
            "",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_and_last_address_of_each_denied_network_is_refused_and_its_neighbours_pass() {
        let denied = [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.0",
            "127.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.255",
            "192.0.2.0",
            "192.0.2.255",
            "192.31.196.0",
            "192.31.196.255",
            "192.52.193.0",
            "192.52.193.255",
            "192.88.99.0",
            "192.88.99.255",
            "192.168.0.0",
            "192.168.255.255",
            "192.175.48.0",
            "192.175.48.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.0",
            "198.51.100.255",
            "203.0.113.0",
            "203.0.113.255",
            "224.0.0.0",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::1.1.1.1",
            "64:ff9b:1::1",
            "100::1",
            "1fff:ffff::1",
            "2001::",
            "2001:1ff:ffff::1",
            "2001:db8::",
            "2001:db8:ffff::1",
            "2002::",
            "2002:ffff::1",
            "2620:4f:8000::",
            "2620:4f:8000:ffff::1",
            "3fff::",
            "3fff:fff:ffff::1",
            "4000::",
            "5f00::1",
            "fc00::",
            "fdff::1",
            "fec0::1",
            "ff00::",
            "ffff::1",
        ];
        let metadata = [
            "169.254.0.0",
            "169.254.255.255",
            "168.63.129.16",
            "fe80::",
            "febf:ffff::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "::ffff:168.63.129.16",
            "::169.254.169.254",
        ];
        let passes = [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2001:db7:ffff::1",
            "2001:db9::",
            "2001:ffff::1",
            "2003::",
            "2620:4f:7fff::1",
            "2620:4f:8001::",
            "3ffe:ffff::1",
            "3fff:1000::",
            "3fff:ffff::1",
            "::ffff:8.8.8.8",
        ];
        let policy = AddressPolicy::default();
        for (list, expected) in [(&denied[..], ADDRESS), (&metadata[..], METADATA), (&passes[..], OK)] {
            for text in list {
                assert_eq!(policy.judge_address(text.parse().unwrap()), expected, "{text}");
            }
        }
    }

    #[test]
    fn an_allowed_network_is_dialled_and_its_neighbour_is_not() {
        let policy = allowing(&["10.20.0.0/16", "127.0.0.0/8", "fd12::/16", "::1/128"], &[]);
        let table = [
            ("10.20.255.255", OK),
            ("::ffff:10.20.1.1", OK),
            ("127.0.0.1", OK),
            ("::1", OK),
            ("fd12::7", OK),
            ("10.21.0.0", ADDRESS),
            ("fd13::7", ADDRESS),
            ("8.8.8.8", OK),
        ];
        for (text, expected) in table {
            assert_eq!(policy.judge_address(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn nothing_allows_link_local_metadata_or_unspecified_addresses() {
        let policy = allowing(&["0.0.0.0/0", "::/0"], &["internal"]);
        let table = [
            ("10.0.0.1", OK),
            ("fc00::1", OK),
            ("64:ff9b::8.8.8.8", OK),
            ("169.254.169.254", METADATA),
            ("::ffff:169.254.169.254", METADATA),
            ("::169.254.169.254", METADATA),
            ("64:ff9b::a9fe:a9fe", METADATA),
            ("64:ff9b:1::a9fe:a9fe", METADATA),
            ("64:ff9b:1:a9fe:a9:fe00::", METADATA),
            ("2001:0:808:808::f7f7:f7f7", OK),
            ("2001:0:808:808:8000:63bf:5601:5601", METADATA),
            ("2001:0:808:808::57c0:7eef", METADATA),
            ("2001:0:a9fe:a9fe::f7f7:f7f7", METADATA),
            ("fc00::5efe:8.8.8.8", OK),
            ("fc00::5efe:169.254.169.254", METADATA),
            ("fc00::200:5efe:168.63.129.16", METADATA),
            ("fc00::300:5efe:169.254.169.254", METADATA),
            ("fc00::400:5efe:169.254.169.254", OK),
            ("fe80::5efe:8.8.8.8", METADATA),
            ("2606:4700::5efe:169.254.169.254", METADATA),
            ("2606:4700::200:5efe:169.254.169.254", METADATA),
            ("2002:808:808::5efe:169.254.169.254", METADATA),
            ("2606:4700::5efe:10.0.0.1", OK),
            ("64:ff9b:1:a9:fe:a9fe::", METADATA),
            ("64:ff9b:1:0:a9:fea9:fe00:0", METADATA),
            ("::ffff:0:169.254.169.254", METADATA),
            ("2002:a9fe:a9fe::1", METADATA),
            ("168.63.129.16", METADATA),
            ("100.100.100.200", METADATA),
            ("192.0.0.192", METADATA),
            ("fd20:ce::254", METADATA),
            ("fe80::1", METADATA),
            ("fd00:ec2::254", METADATA),
            ("fd00:ec2::23", METADATA),
            ("0.0.0.0", ADDRESS),
            ("::", ADDRESS),
        ];
        for (text, expected) in table {
            assert_eq!(policy.judge_address(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn cve_2026_55473_an_allowed_nat64_prefix_still_judges_the_ipv4_behind_it() {
        let policy = allowing(&["64:ff9b::/96"], &[]);
        assert_eq!(policy.judge_address("64:ff9b::8.8.8.8".parse().unwrap()), OK);
        assert_eq!(policy.judge_address("64:ff9b::10.0.0.1".parse().unwrap()), ADDRESS);
        assert_eq!(policy.judge_address("64:ff9b::127.0.0.1".parse().unwrap()), ADDRESS);
    }

    #[test]
    fn names_are_judged_by_labels_and_allowed_by_suffix() {
        let policy = allowing(&[], &["svc.cluster.local", "receiver"]);
        let long = format!("{}.example", "a".repeat(64));
        let table = [
            ("shop.default.svc.cluster.local", OK),
            ("SHOP.default.svc.cluster.LOCAL.", OK),
            ("svc.cluster.local", OK),
            ("receiver", OK),
            ("a.receiver", OK),
            ("xsvc.cluster.local", NAME),
            ("other", NAME),
            ("notlocalhost.example", OK),
            ("mylocal.example", OK),
            ("xlocal", NAME),
            ("a.mylan", OK),
            ("", NAME),
            (".", NAME),
            ("a..b", NAME),
            ("a.b..", NAME),
            ("host.1", NAME),
            ("host.0x1f", NAME),
            ("host.0x", NAME),
            ("1.receiver", OK),
            ("a.x1", OK),
            (long.as_str(), NAME),
        ];
        for (name, expected) in table {
            assert_eq!(policy.judge_name(name), expected, "{name}");
        }
    }

    #[test]
    fn ports_of_other_protocols_are_refused_whatever_the_ports_are_narrowed_to() {
        assert!(BLOCKED_PORTS.is_sorted(), "they are searched for by halves");
        let narrowed = AddressPolicy { ports: vec![443..=443, 6660..=7000], ..AddressPolicy::default() };
        for (port, anywhere, there) in
            [(443, OK, OK), (80, OK, PORT), (6660, OK, OK), (6667, PORT, PORT), (7000, OK, OK), (7001, OK, PORT), (65535, OK, PORT)]
        {
            assert_eq!(AddressPolicy::default().judge_port(port), anywhere, "{port}");
            assert_eq!(narrowed.judge_port(port), there, "{port}");
        }
        assert_eq!(narrowed.judge_url(&Url::parse("https://hooks.example.com/").unwrap()), OK);
        assert_eq!(narrowed.judge_url(&Url::parse("http://hooks.example.com/").unwrap()), PORT);
    }

    #[test]
    fn labels_of_refusals_are_distinct() {
        assert_eq!(Refusal::ALL.map(Refusal::as_str), ["address", "metadata", "name", "port", "url"]);
    }
}
