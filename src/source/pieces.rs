//! Parsing a large document piece by piece.
//!
//! The parser's tree, with its tokens and events, takes dozens of times the room of the text: a registry of 100,000 bindings would for a
//! moment need more than half a gigabyte, beside a daemon that does its work in a fraction of that. So a long text is cut before lines such
//! as `[[bindings]]`, each piece is parsed by itself and turned into our smaller tree, and the rows are put together.
//!
//! That cuts nothing in two unnoticed: a piece that ends within a string, a list or a table is not TOML. It is parsed again together with
//! the next one; if that gives the same error, the error is real. Keys of the head (before the first row) and tables that two pieces name
//! cannot be put together from pieces: then the document is parsed as a whole, which tells what is wrong with it.

use super::document::{Lines, Node, Value, entries};
use toml::de::DeTable;

/// A piece has about this many bytes; a text of less than four pieces is parsed as a whole.
const PIECE: usize = 1 << 20;

/// The first syntax error of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The byte where it is, where one is to blame.
    pub(super) at: Option<usize>,
    /// What it is; never holds more of the text than the name of a key.
    pub(super) message: String,
}

impl Fault {
    /// Of `piece`, which begins at byte `start` of the text.
    fn new(error: &toml::de::Error, piece: &str, start: usize) -> Self {
        let name = error.span().filter(|_| error.message() == DUPLICATE).and_then(|span| piece.get(span)).filter(|name| is_name(name));
        let message =
            error.message().replace('\n', ", ") + &name.map_or_else(String::new, |name| format!(" {name}: remove one of the two"));
        Self { at: error.span().map(|span| start + span.start), message }
    }
}

/// The parser's words for a key that is there twice. It points to the key then: a name, and never a secret.
const DUPLICATE: &str = "duplicate key";

/// Whether `text` looks like a key, and like nothing else.
fn is_name(text: &str) -> bool {
    (1..=80).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.\"'".contains(&byte))
}

/// Keys and values of a table.
type Entries = Vec<(String, Node)>;

/// Parses `text`, whose lines are `lines`.
pub(super) fn parse(text: &str, lines: &Lines) -> Result<Entries, Fault> {
    if text.len() < 4 * PIECE { at_once(text, lines) } else { by(PIECE, text, lines) }
}

fn at_once(text: &str, lines: &Lines) -> Result<Entries, Fault> {
    let table = DeTable::parse(text).map_err(|error| Fault::new(&error, text, 0))?;
    Ok(entries(table.into_inner(), &|byte| lines.place(byte)))
}

fn by(size: usize, text: &str, lines: &Lines) -> Result<Entries, Fault> {
    let mut all = Entries::new();
    let mut of_head = usize::MAX;
    let (mut start, mut end) = (0, next_row(text, 0));
    loop {
        let mut parsed = DeTable::parse(&text[start..end]);
        if let Err(error) = &parsed
            && end < text.len()
        {
            let longer = next_row(text, end + size);
            let again = DeTable::parse(&text[start..longer]);
            if again.as_ref().is_err_and(|again| again.span() != error.span() || again.message() != error.message()) {
                return at_once(text, lines);
            }
            (parsed, end) = (again, longer);
        }
        let table = parsed.map_err(|error| Fault::new(&error, &text[start..end], start))?;
        for (key, node) in entries(table.into_inner(), &|byte| lines.place(start + byte)) {
            match all.iter().position(|(known, _)| *known == key) {
                None => all.push((key, node)),
                Some(at) => {
                    let rows = (&mut all[at].1.value, node.value);
                    let (false, (Value::List(rows), Value::List(more))) = (at < of_head, rows) else { return at_once(text, lines) };
                    rows.extend(more);
                }
            }
        }
        of_head = of_head.min(all.len());
        if end == text.len() {
            return Ok(all);
        }
        (start, end) = (end, next_row(text, end + size));
    }
}

/// The first line from byte `from` on that begins a row, `[[name]]`; the end of the text when there is none.
fn next_row(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.windows(2).position(|pair| pair == b"[[")) {
        let line = at + found;
        if (line == 0 || bytes[line - 1] == b'\n') && is_row(&bytes[line + 2..]) {
            return line;
        }
        at = line + 2;
    }
    text.len()
}

/// Whether what follows `[[` is a plain name and `]]`.
fn is_row(rest: &[u8]) -> bool {
    let name = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')).count();
    name > 0 && rest[name..].starts_with(b"]]")
}

#[cfg(test)]
mod tests {
    use super::super::document::Place;
    use super::*;

    /// A tree with its lines, as text.
    fn shown(result: Result<Entries, Fault>) -> String {
        fn value(value: &Value) -> String {
            match value {
                Value::Text(text) => format!("{text:?}"),
                Value::Integer(number) => format!("{number:?}"),
                Value::Float(number) => format!("{number:?}"),
                Value::Boolean(boolean) => format!("{boolean}"),
                Value::Instant(text) => text.clone(),
                Value::List(items) => format!("[{}]", items.iter().map(node).collect::<Vec<_>>().join(",")),
                Value::Table(entries) => table(entries),
            }
        }
        fn node(node: &Node) -> String {
            let Place::Line(line) = node.place else { panic!("no variables here") };
            format!("{}@{line}", value(&node.value))
        }
        fn table(entries: &Entries) -> String {
            let mut members: Vec<String> = entries.iter().map(|(key, value)| format!("{key}={}", node(value))).collect();
            members.sort();
            format!("{{{}}}", members.join(","))
        }
        result.map_or_else(|fault| format!("{fault:?}"), |entries| table(&entries))
    }

    /// Parsed by pieces of any size, `text` yields what it yields as a whole.
    fn all_ways(text: &str) {
        let lines = Lines::of(text);
        let expected = shown(at_once(text, &lines));
        for size in (1..40).chain([100, 1000, 10_000]) {
            assert_eq!(shown(by(size, text, &lines)), expected, "by {size}: {text}");
        }
    }

    #[test]
    fn by_pieces_of_any_size_a_text_is_what_it_is_as_a_whole() {
        let rows = |name: &str, count: usize| (0..count).map(|n| format!("[[{name}]]\nn = {n}\n")).collect::<String>();
        for text in [
            String::new(),
            "a = 1\n".into(),
            rows("z", 9),
            format!("a = 1\n{}{}", rows("y", 3), rows("z", 3)),
            format!("{}{}{}", rows("y", 3), rows("z", 3), rows("y", 3)),
            // Below a row: tables, rows of its own.
            format!("{}[y.t]\na = 1\n[[y.k]]\nb = 1\n[[y.k]]\nb = 2\n{}", rows("y", 2), rows("z", 2)),
            format!("{}[t]\na = 1\n{}[t.u]\nb = 1\n{}", rows("y", 2), rows("z", 2), rows("y", 2)),
            // What looks like a row and is none.
            format!("[[y]]\na = \"\"\"\n[[z]]\nb = 1\n\"\"\"\n{}", rows("z", 3)),
            format!("[[y]]\na = '''\n[[z]]\nb = 1\n'''\nc = [\n[[1]],\n[[2]]\n]\n{}", rows("z", 3)),
            format!("a = [\n[[1]]\n]\n{}", rows("z", 3)),
            format!("# [[z]]\n{}#\n[[y]] # [[z]]\n{}", rows("z", 2), rows("z", 2)),
            format!("{}[[ y ]]\na = 1\n[[ \"y\" ]]\na = 1\n{}", rows("y", 2), rows("y", 2)),
            rows("z", 5).replace('\n', "\r\n"),
        ] {
            all_ways(&text);
        }
    }

    #[test]
    fn by_pieces_of_any_size_an_error_is_the_one_that_the_whole_has() {
        let rows = |name: &str, count: usize| (0..count).map(|n| format!("[[{name}]]\nn = {n}\n")).collect::<String>();
        for wrong in [
            "a = \n",
            "a = \"open\n",
            "a = 1\na = 2\n",
            "[[z]\n",
            "[z]\na = 1\n",
            "[y.t]\n[y.t]\n",
            "a = [1,\n",
            "a = { b = 1\n",
            "a = \"\"\"\n",
            "?\n",
        ] {
            for (before, behind) in [(0, 0), (0, 5), (5, 0), (5, 5)] {
                all_ways(&format!("{}{wrong}{}", rows("y", before), rows("z", behind)));
            }
        }
        for head in ["y = 1\n", "z = [{ a = 1 }]\n", "[y]\n", "[z.y]\n", "y.a = 1\n"] {
            all_ways(&format!("{head}{}{}", rows("y", 5), rows("z", 5)));
        }
        all_ways(&format!("{}[z]\n{}", rows("y", 5), rows("z", 5)));
        all_ways(&format!("{}[z]\na = 1\n{}[z]\nb = 1\n{}", rows("y", 2), rows("y", 2), rows("y", 2)));
    }
}
