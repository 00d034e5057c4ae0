//! An Apache Kafka that asks who is there and what they may: TLS with SCRAM, TLS with client certificates, and ACLs that deny by default.
//!
//! The plain listener stays, and whoever comes through it may do everything: it is the tests' own way in. The broker's certificate is for the
//! name `localhost` alone. All certificates are made in the run, and one authority signs them.

use super::acls::{self, Acl};
use super::broker::Broker;
use super::processes::{free_port, remove_at_the_end, run_dir};
use super::scene::Scene;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The password of every user.
pub(crate) const PASSWORD: &str = "canary-of-scram-5d7e";

/// The users that may come with a password, by PLAIN and both mechanisms of SCRAM.
const USERS: [&str; 4] = ["daemon", "operator", "archivist", "nobody"];

/// The broker and its doors.
pub(crate) struct Secured {
    /// The tests' own way in, which may do everything.
    pub(crate) plain: String,
    /// TLS with a password.
    pub(crate) scram: String,
    /// TLS with client certificates.
    pub(crate) certificates: String,
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    authority: Issuer<'static, KeyPair>,
    _broker: Broker,
}

/// The one of the run, started by the first test that needs it.
pub(crate) fn shared() -> &'static Secured {
    static SHARED: OnceLock<Result<Secured, String>> = OnceLock::new();
    let started = SHARED.get_or_init(|| {
        let dir = run_dir().join("secured-broker");
        let started = Secured::start(&dir);
        remove_at_the_end(&dir.join("data"));
        started
    });
    started.as_ref().unwrap_or_else(|why| panic!("no Apache Kafka, no test: {why}"))
}

impl Secured {
    fn start(dir: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
        let (authority, ca_pem) = authority("tests");
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, ca_pem).map_err(|e| e.to_string())?;
        let (key, certificate) = signed(&authority, "broker", &["localhost"]);
        std::fs::write(dir.join("broker.pem"), format!("{key}{certificate}")).map_err(|e| e.to_string())?;

        let (plain, scram, certificates) = (free_port(), free_port(), free_port());
        let controller = free_port();
        let properties = format!(
            "controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},SCRAM://127.0.0.1:{scram},CERTIFICATES://127.0.0.1:{certificates},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SCRAM://localhost:{scram},CERTIFICATES://localhost:{certificates},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,CERTIFICATES:SSL
inter.broker.listener.name=PLAINTEXT
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.scram.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required {};
listener.name.scram.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.certificates.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={}
ssl.truststore.type=PEM
ssl.truststore.location={}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
",
            USERS.map(|user| format!("user_{user}=\"{PASSWORD}\"")).join(" "),
            dir.join("broker.pem").display(),
            ca.display()
        );
        let users: Vec<String> = ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .iter()
            .flat_map(|mechanism| USERS.map(|user| format!("{mechanism}=[name={user},password={PASSWORD}]")))
            .collect();
        let formatting: Vec<&str> = users.iter().flat_map(|user| ["--add-scram", user.as_str()]).collect();
        let broker = Broker::start_with(dir, plain, &properties, &formatting)?;
        Ok(Self {
            plain: broker.bootstrap.clone(),
            scram: format!("localhost:{scram}"),
            certificates: format!("localhost:{certificates}"),
            ca,
            authority,
            _broker: broker,
        })
    }

    /// A client's key and certificate, both PEM, signed by the authority, and the principal that the broker takes its owner for.
    pub(crate) fn certificate(&self, name: &str) -> (String, String, String) {
        let (key, certificate) = signed(&self.authority, name, &[]);
        (key, certificate, format!("User:CN={name}"))
    }

    /// From now on the scene's configuration goes through the door for certificates, with one of that name; its principal.
    pub(crate) fn by_certificate(&self, scene: &mut Scene, name: &str) -> String {
        let (key, certificate, principal) = self.certificate(name);
        std::fs::write(scene.dir.join(format!("{name}.key")), key).unwrap();
        std::fs::write(scene.dir.join(format!("{name}.pem")), certificate).unwrap();
        scene.brokers = Some(self.certificates.clone());
        scene.kafka = format!(
            "[kafka.properties]\n\"security.protocol\" = \"SSL\"\n\"ssl.ca.location\" = {:?}\n\"ssl.certificate.location\" = \"{name}.pem\"\n\"ssl.key.location\" = \"{name}.key\"\n",
            self.ca
        );
        principal
    }

    /// From now on the scene's configuration goes through the door for passwords as `user`, whose password is `password` in TOML; its principal.
    pub(crate) fn by_scram(&self, scene: &mut Scene, mechanism: &str, user: &str, password: &str) -> String {
        scene.brokers = Some(self.scram.clone());
        scene.kafka = format!(
            "[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\"sasl.mechanism\" = {mechanism:?}\n\"ssl.ca.location\" = {:?}\n\"sasl.username\" = {user:?}\n\"sasl.password\" = {password}\n",
            self.ca
        );
        format!("User:{user}")
    }

    /// Allows `principal` all of `acls`.
    pub(crate) fn allow(&self, principal: &str, acls: &[Acl]) {
        acls::allow(&self.plain, principal, acls);
    }
}

/// An authority, and its certificate in PEM.
pub(crate) fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut parameters = parameters(name, &[]);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    let certificate = pem("CERTIFICATE", parameters.self_signed(&key).unwrap().der());
    (Issuer::new(parameters, key), certificate)
}

/// A key and a certificate that `authority` signed, both PEM.
fn signed(authority: &Issuer<'static, KeyPair>, name: &str, hosts: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = parameters(name, hosts).signed_by(&key, authority).unwrap();
    (pem("PRIVATE KEY", key.serialized_der()), pem("CERTIFICATE", certificate.der()))
}

fn pem(what: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

fn parameters(name: &str, hosts: &[&str]) -> CertificateParams {
    let mut parameters = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}
