//! Registry files of the benchmark.

use crate::events::domain_name;
use std::fmt::Write as _;

/// A registry of `domains` domains, each with one binding; domain `d` has the signed callback template `d` modulo `templates`, whose URL is
/// `url(template)`.
pub(crate) fn registry(domains: u64, templates: u64, url: impl Fn(u64) -> String) -> String {
    let mut text = String::from("[[recording_templates]]\nname = \"bench\"\nformats = [\"mp4\"]\n\n");
    for template in 0..templates {
        let url = url(template);
        write!(
            text,
            r#"[[callback_templates]]
name = "t{template}"
urls = {{ recording_file = "{url}" }}
keys = [{{ id = "only", value = "benchmark-key-of-no-worth" }}]

"#
        )
        .unwrap();
    }
    for domain in 0..domains {
        let (name, template) = (domain_name(domain), domain % templates);
        write!(
            text,
            r#"[[domains]]
name = "{name}"

[[bindings]]
domain = "{name}"
recording_template = "bench"
callback_template = "t{template}"

"#
        )
        .unwrap();
    }
    text
}
