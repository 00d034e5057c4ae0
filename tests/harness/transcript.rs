//! A page's blocks, typed as a reader would type them, and its blocks of output compared with what came.
//!
//! What a block is, the page says in words that people read too. The line of prose right before a block counts:
//!
//! | block | means |
//! |---|---|
//! | `toml` | a file; the line begins with its name, in backquotes |
//! | `sh` | commands, in the terminal that the line names (`terminal 2`), else in terminal 1 |
//! | `text` | what that terminal prints; right after an `sh` block, with no prose between, what its commands print |
//!
//! In terminal 1 commands run to their end, must succeed, and print what the `text` block says, all of it; without one, nothing. In any other
//! terminal one command stays and is awaited by what it prints. `Ctrl-C` in the line ends what runs in its terminal before.
//! In `text`, `…` stands for any characters within a line, and alone in a line for any number of lines.
//!
//! Anything else is a failure: a section that is gone, a block of another kind, a file without a name, a substitution that finds nothing.

use super::processes::Process;
use super::scene::binary;
use super::{SOON, await_some, await_true};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A block of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    /// Where it begins in the page, counted from one.
    line: usize,
    /// What its fence says: `sh`, `toml`, `text`.
    kind: String,
    /// The line of prose right before it; empty where another block is.
    prose: String,
    text: String,
}

/// The blocks of the section under `heading`, which ends with the next heading of its level.
fn blocks(page: &str, heading: &str) -> Vec<Block> {
    let level = heading.split(' ').next().unwrap();
    let mut found = Vec::new();
    let (mut inside, mut prose, mut open) = (false, String::new(), None::<(Block, usize)>);
    for (at, line) in page.lines().enumerate() {
        match &mut open {
            Some(_) if line.trim() == "```" => {
                found.extend(open.take().map(|(block, _)| block).filter(|_| inside));
                prose.clear();
            }
            Some((block, indent)) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
            None if line.trim_start().starts_with("```") => {
                let (indent, kind) = (line.len() - line.trim_start().len(), line.trim_start().trim_start_matches('`').to_owned());
                open = Some((Block { line: at + 1, kind, prose: std::mem::take(&mut prose), text: String::new() }, indent));
            }
            None if line.starts_with('#') && line.split(' ').next().is_some_and(|l| l.len() <= level.len()) => inside = line == heading,
            None if !line.trim().is_empty() => prose = line.trim().to_owned(),
            None => {}
        }
    }
    assert!(open.is_none(), "a block of the page has no end");
    assert!(!found.is_empty(), "the page has no section {heading:?} with blocks: was it renamed? its test reads it by that name");
    found
}

/// The number behind `terminal`, if the line names one.
fn terminal(prose: &str) -> Option<usize> {
    let (_, behind) = prose.split_once("erminal ")?;
    behind.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

fn line_matches(expected: &str, printed: &str) -> bool {
    let (expected, printed) = (expected.trim_end(), printed.trim_end());
    let Some((first, mut rest)) = expected.split_once('…') else { return expected == printed };
    let Some(mut left) = printed.strip_prefix(first) else { return false };
    while let Some((piece, behind)) = rest.split_once('…') {
        let Some(at) = left.find(piece) else { return false };
        (left, rest) = (&left[at + piece.len()..], behind);
    }
    left.ends_with(rest)
}

/// How many of the lines `printed` are what was expected; all of them must be, if `whole`.
fn matched(expected: &[&str], printed: &[&str], whole: bool) -> Option<usize> {
    match expected.split_first() {
        None => (!whole || printed.is_empty()).then_some(0),
        Some((&"…", rest)) => (0..=printed.len()).find_map(|skip| Some(skip + matched(rest, &printed[skip..], whole)?)),
        Some((line, rest)) => {
            let (first, behind) = printed.split_first()?;
            if line_matches(line, first) { Some(1 + matched(rest, behind, whole)?) } else { None }
        }
    }
}

/// What runs in a terminal, and what it printed.
struct Terminal {
    process: Option<Process>,
    out: PathBuf,
    /// Lines that were compared already.
    seen: usize,
}

impl Terminal {
    /// Complete lines, those that were compared left out.
    fn unseen(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&std::fs::read(&self.out).unwrap()).into_owned();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().skip(self.seen).map(str::to_owned).collect()
    }

    /// As Ctrl-C does: to the whole group.
    fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            let group = format!("-{}", process.id());
            let _ = Command::new("kill").args(["-s", name, "--", &group]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

/// Where a page is tried.
pub(crate) struct Stage {
    dir: PathBuf,
    /// Variables of what is run.
    environment: Vec<(String, String)>,
    terminals: BTreeMap<usize, Terminal>,
}

impl Stage {
    /// In `dir`, which is to be empty, with the built `callbackd` first on the path.
    pub(crate) fn new(dir: &Path) -> Self {
        let bin = dir.with_extension("bin");
        for dir in [dir, &bin] {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::os::unix::fs::symlink(binary().get_program(), bin.join("callbackd")).unwrap();
        let environment = vec![("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())];
        let mut stage = Self { dir: dir.to_path_buf(), environment, terminals: BTreeMap::new() };
        stage.first_on_the_path(&bin);
        stage
    }

    /// A variable of what is run.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// A directory of programs, before all others.
    pub(crate) fn first_on_the_path(&mut self, bin: &Path) {
        let path = self.environment.iter_mut().find(|(name, _)| name == "PATH").map(|(_, path)| path).unwrap();
        *path = format!("{}:{path}", bin.display());
    }

    /// Does everything that the section of `page` under `heading` says; of each pair of `substitutions`, the second where the page has the first.
    pub(crate) fn play(&mut self, page: &str, heading: &str, substitutions: &[(&str, &str)]) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut blocks = blocks(&text, heading);
        for (from, to) in substitutions {
            assert!(blocks.iter().any(|block| block.text.contains(*from)), "{page}, {heading}: nothing to substitute: {from:?}");
            blocks.iter_mut().for_each(|block| block.text = block.text.replace(from, to));
        }
        let mut rest = &blocks[..];
        while let Some((block, mut behind)) = rest.split_first() {
            let place = format!("{page}:{}", block.line);
            match block.kind.as_str() {
                "toml" => self.write(&place, block),
                "sh" => {
                    let printed = behind.first().filter(|next| next.kind == "text" && next.prose.is_empty());
                    behind = &behind[usize::from(printed.is_some())..];
                    self.type_in(&place, block, printed.map(|block| block.text.as_str()));
                }
                "text" => {
                    let number = terminal(&block.prose).unwrap_or_else(|| panic!("{place}: which terminal prints this? {:?}", block.prose));
                    self.interrupt(&place, &block.prose, number);
                    self.await_printed(&place, number, &block.text);
                }
                other => panic!("{place}: a block of the kind {other:?}, which its test cannot run"),
            }
            rest = behind;
        }
        // What runs in the terminals ends with the page.
        self.terminals.clear();
    }

    fn write(&self, place: &str, block: &Block) {
        let name = block.prose.strip_prefix('`').and_then(|prose| prose.split_once('`')).map(|(name, _)| name);
        let name = name.filter(|name| Path::new(name).extension().is_some_and(|end| *end == *block.kind));
        let name = name.unwrap_or_else(|| panic!("{place}: no name of a file begins the line before: {:?}", block.prose));
        std::fs::write(self.dir.join(name), &block.text).unwrap();
    }

    fn type_in(&mut self, place: &str, block: &Block, printed: Option<&str>) {
        let number = terminal(&block.prose).unwrap_or(1);
        self.interrupt(place, &block.prose, number);
        if number != 1 {
            let printed = printed.unwrap_or_else(|| panic!("{place}: what does terminal {number} print when the command has begun?"));
            self.run(place, number, &block.text);
            return self.await_printed(place, number, printed);
        }
        self.run(place, 1, &block.text);
        let terminal = self.terminals.get_mut(&1).unwrap();
        let code = await_some(&format!("{place}: the end of\n{}", block.text), SOON, || terminal.process.as_mut()?.exit_code());
        let text = String::from_utf8_lossy(&std::fs::read(&terminal.out).unwrap()).into_owned();
        assert_eq!(code, 0, "{place}: exit code of\n{}--- it printed\n{text}", block.text);
        let (expected, lines): (Vec<&str>, Vec<&str>) = (printed.unwrap_or_default().lines().collect(), text.lines().collect());
        assert!(
            matched(&expected, &lines, true).is_some(),
            "{place}: printed by\n{}--- is\n{text}--- and not\n{}",
            block.text,
            printed.unwrap_or_default()
        );
        self.terminals.remove(&1);
    }

    fn run(&mut self, place: &str, number: usize, commands: &str) {
        let out = self.dir.with_extension(format!("terminal-{number}"));
        let terminal = self.terminals.entry(number).or_insert_with(|| {
            std::fs::write(&out, "").unwrap();
            Terminal { process: None, out, seen: 0 }
        });
        assert!(terminal.process.is_none(), "{place}: something runs in terminal {number}; the page does not say Ctrl-C");
        let output = std::fs::OpenOptions::new().append(true).open(&terminal.out).unwrap();
        // A terminal's shell hears Ctrl-C, also where these tests were started in the background and inherited a deaf ear.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "bash", "-euo", "pipefail", "-c", commands]).current_dir(&self.dir).process_group(0);
        for (name, _) in binary().get_envs() {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        terminal.process = Some(Process::spawn(&mut command).unwrap_or_else(|error| panic!("bash cannot be run: {error}")));
    }

    /// Ends what runs in a terminal, where the page says so.
    fn interrupt(&mut self, place: &str, prose: &str, number: usize) {
        if !prose.contains("Ctrl-C") {
            return;
        }
        let running = self.terminals.get_mut(&number).filter(|terminal| terminal.process.is_some());
        let terminal = running.unwrap_or_else(|| panic!("{place}: nothing runs in terminal {number}, so what would Ctrl-C end?"));
        terminal.signal("INT");
        await_true(&format!("{place}: the end after Ctrl-C"), SOON, || terminal.process.as_mut().is_some_and(|p| p.exit_code().is_some()));
        terminal.process = None;
    }

    /// Waits until a terminal has printed these lines, right behind those that it was compared with before.
    fn await_printed(&mut self, place: &str, number: usize, printed: &str) {
        let terminal = self.terminals.get_mut(&number).unwrap_or_else(|| panic!("{place}: nothing was run in terminal {number}"));
        let expected: Vec<&str> = printed.lines().collect();
        let start = Instant::now();
        loop {
            let over = terminal.process.as_mut().is_none_or(|process| process.exit_code().is_some());
            let lines = terminal.unseen();
            if let Some(count) = matched(&expected, &lines.iter().map(String::as_str).collect::<Vec<_>>(), false) {
                terminal.seen += count;
                return;
            }
            assert!(
                !over && start.elapsed() < SOON,
                "{place}: terminal {number} {} and printed\n{}\n--- and not\n{printed}",
                if over { "has ended" } else { "was awaited" },
                lines.join("\n")
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn output_is_what_the_page_says_or_not() {
        let printed = ["one 17 two", "three ", "four"];
        for (expected, whole, count) in [
            (&["one … two", "three", "four"][..], true, Some(3)),
            (&["… 17 …", "…", "four"], true, Some(3)),
            (&["…", "three"], false, Some(2)),
            (&["…", "three"], true, None),
            (&["…", "three", "…"], true, Some(3)),
            (&["three"], false, None),
            (&["one … 18 two", "three", "four"], true, None),
            (&["one", "three", "four"], true, None),
            (&["one 17 two", "three", "four", "five"], false, None),
            (&[], false, Some(0)),
            (&[], true, None),
        ] {
            assert_eq!(matched(expected, &printed, whole), count, "{expected:?} {whole}");
        }
        assert!(!line_matches("a…a", "a") && line_matches("a…a", "aa") && line_matches("a…b…c", "a1b2c") && !line_matches("a…b…c", "acb"));
    }

    #[test]
    fn a_section_has_its_blocks_with_the_line_before_each_and_ends_with_the_next_heading() {
        let page = "# A\n```sh\nno\n```\n## B\n\n`f.toml`, new:\n\n```toml\na = 1\n```\n### C\n1. Terminal 2:\n\n   ```sh\n   # D\n     x\n   ```\n   ```text\n   y\n   ```\n## E\n```sh\nno\n```\n";
        let block = |line, kind: &str, prose: &str, text: &str| Block { line, kind: kind.into(), prose: prose.into(), text: text.into() };
        assert_eq!(
            blocks(page, "## B"),
            [block(9, "toml", "`f.toml`, new:", "a = 1\n"), block(15, "sh", "1. Terminal 2:", "# D\n  x\n"), block(19, "text", "", "y\n")]
        );
        assert_eq!((terminal("Terminal 2:"), terminal("Ctrl-C in terminal 13"), terminal("In terminals")), (Some(2), Some(13), None));
        assert!(catch_unwind(|| blocks(page, "## F")).is_err());
    }

    #[test]
    fn a_page_that_cannot_be_played_or_says_other_than_what_happens_fails() {
        let dir = super::super::processes::run_dir().join("transcript");
        let play = |number: usize, text: &str, substitution: Option<(&str, &str)>| {
            let dir = dir.join(number.to_string());
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("page.md"), format!("## A\n\n{text}")).unwrap();
            let mut stage = Stage::new(&dir.join("room"));
            let substitutions: Vec<_> = substitution.into_iter().collect();
            catch_unwind(AssertUnwindSafe(|| stage.play(&dir.join("page.md").to_string_lossy(), "## A", &substitutions))).is_ok()
        };
        let stays = "In terminal 2:\n```sh\ntrap 'echo over; exit' INT; echo up; while :; do sleep 0.05; done\n```\n```text\nup\n```\n";
        for (at, (text, substitution, well)) in [
            ("```sh\necho here\n```\n```text\nhere\n```\n", None, true),
            ("```sh\necho here\n```\n```text\nthere\n```\n", None, false),
            ("```sh\necho here\n```\n```text\nthere\n```\n", Some(("echo here", "echo there")), true),
            ("```sh\ntrue\n```\n", Some(("here", "there")), false),
            ("```sh\necho here\n```\n", None, false),
            ("```sh\ntrue\n```\n```text\nhere\n```\n", None, false),
            ("```sh\nfalse\n```\n", None, false),
            ("```sh\nfalse\ntrue\n```\n", None, false),
            ("```console\ntrue\n```\n", None, false),
            ("`a.toml`:\n```toml\nb = 1\n```\nThen:\n```sh\ncat a.toml\n```\n```text\nb = 1\n```\n", None, true),
            ("A file:\n```toml\nb = 1\n```\n", None, false),
            (stays, None, true),
            (&stays.replace("text\nup", "text\ndown").replace("while :; do sleep 0.05; done", "exit"), None, false),
            (&format!("{stays}In terminal 2:\n```sh\necho again\n```\n```text\nagain\n```\n"), None, false),
            (&format!("{stays}Ctrl-C in terminal 2:\n```text\nover\n```\n"), None, true),
            (&format!("{stays}Ctrl-C in terminal 3:\n```text\nover\n```\n"), None, false),
            ("It prints:\n```text\nhere\n```\n", None, false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(play(at, text, substitution), well, "{text}");
        }
    }
}
