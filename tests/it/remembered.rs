//! Inputs that are remembered are the inputs that the compiler would read: headers appear, change,
//! move and vanish at random, and every object equals the one of a fresh local compile.

use crate::harness::farm::Farm;
use crate::harness::project::Project;

/// Steps of each walk.
const STEPS: u32 = 250;
/// A step in so many restarts the daemon: what is remembered then comes from its files.
const RESTART_EVERY: usize = 40;
/// Contents of the project that are kept, to go back to as a change of branches would.
const BRANCHES: usize = 3;
const COMMANDS: [&str; 4] = [
    "gcc -g -iquote quote -Iinc0 -Iinc1 -Iinc2 -c src/m.c -o m.o",
    "g++ -O1 -MD -iquote quote -Iinc0 -isystem inc1 -idirafter inc2 -c src/n.cc -o n.o",
    "gcc -g -include a.h -Iinc2 -Iinc1 -Iinc0 -c src/m.c -o p.o",
    "clang -g -iquote quote -Iinc1 -Iinc0 -Iinc2 -c src/m.c -o q.o",
];
const SOURCE: &str = r#"
#include <a.h>
#include "b.h"
#include <sub/d.h>
#if __has_include(<opt/o.h>) || __has_include("c.h")
int optional = 1;
#endif
"#;
const FOLDERS: [&str; 5] = ["src", "quote", "inc0", "inc1", "inc2"];
const HEADERS: [&str; 6] = ["a.h", "b.h", "c.h", "sub/d.h", "sub/e.h", "opt/o.h"];

/// A small generator (xorshift), so that a failure names a seed that repeats it.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Headers with which every command succeeds.
const FIRST: [(&str, &str); 3] = [
    ("src/b.h", "static int b = 1;\n"),
    ("inc2/a.h", "static int a = 1;\n"),
    ("inc2/sub/d.h", "static int d = 1;\n"),
];

fn start() -> Project {
    let rest = [
        ("src/m.c", SOURCE),
        ("src/n.cc", SOURCE),
        ("inc0/empty", ""),
        ("inc1/empty", ""),
        ("quote/empty", ""),
    ];
    Project::new(&[&FIRST[..], &rest].concat())
}

/// A header that says which of all headers it is, and may lead to another one in any of the ways
/// in which a file can.
fn header(path: &str, random: &mut Random) -> String {
    let guard: String =
        path.chars().map(|one| if one.is_alphanumeric() { one } else { '_' }).collect();
    let other = *random.pick(&HEADERS);
    let leads = match random.below(10) {
        0 => format!("#include <{other}>"),
        1 => format!("#include \"{other}\""),
        2 => format!("#include_next <{other}>"),
        3 => format!("#if __has_include(\"{other}\")\n#include \"{other}\"\n#endif"),
        4 => format!("#if 0\n#include \"{other}\"\n#include <never.h>\n#endif"),
        5 => format!("#define NEXT_{guard} <{other}>\n#include NEXT_{guard}"),
        6 => format!(
            "/* #include \"never.h\" */\n#if __has_include(<{other}>)\nstatic int has_{guard};\n#endif"
        ),
        7 | 8 => {
            let use_it = SWITCH[random.below(2)];
            format!("{use_it}\n#if USE\n#include \"{other}\"\n#endif\n#undef USE")
        }
        _ => String::new(),
    };
    let number = random.below(1_000);
    let value = if random.below(8) == 0 { "__LINE__" } else { "__FILE__[0]" };
    format!(
        "#ifndef {guard}\n#define {guard}\n{leads}\n\
         static int v_{guard}(void) {{ return {value} + {number}; }}\n\
         static int (*p_{guard})(void) __attribute__((used)) = v_{guard};\n#endif\n"
    )
}

/// Whether a header reads another one: all that is included, tested and defined looks the same.
const SWITCH: [&str; 2] = ["#define USE 0", "#define USE 1"];

/// What the project looked like at some time.
type Branch = Vec<(String, String)>;

/// The headers that are there, and branches to go back to.
struct Headers {
    there: Vec<(String, String)>,
    branches: Vec<Branch>,
}

impl Headers {
    fn first() -> Self {
        let there = FIRST.map(|(path, text)| (path.to_owned(), text.to_owned()));
        Self { there: there.into(), branches: Vec::new() }
    }

    fn put(&mut self, project: &mut Project, path: &str, text: String) {
        project.write(path, text.as_bytes());
        self.there.retain(|(name, _)| name != path);
        self.there.push((path.to_owned(), text));
    }

    fn take(&mut self, project: &mut Project, path: &str) {
        project.remove(path);
        self.there.retain(|(name, _)| name != path && !name.starts_with(&format!("{path}/")));
    }

    fn go_to(&mut self, project: &mut Project, branch: &Branch) {
        for (path, _) in self.there.clone() {
            if !branch.iter().any(|(name, _)| *name == path) {
                self.take(project, &path);
            }
        }
        for (path, text) in branch {
            if !self.there.contains(&(path.clone(), text.clone())) {
                self.put(project, path, text.clone());
            }
        }
    }

    /// Changes something; mostly what matters.
    fn change(&mut self, project: &mut Project, random: &mut Random) -> String {
        let path = format!("{}/{}", random.pick(&FOLDERS), random.pick(&HEADERS));
        match random.below(14) {
            0..=3 => {
                self.put(project, &path, header(&path, random));
                format!("write {path}")
            }
            4 | 5 => {
                self.take(project, &path);
                format!("remove {path}")
            }
            6 => {
                let folder = *random.pick(&["inc0/sub", "inc1/sub", "inc0/opt"]);
                self.take(project, folder);
                format!("remove {folder}")
            }
            7 => {
                let name = *random.pick(&["src/m.c", "src/n.cc"]);
                let text = format!("{SOURCE}int edited = {};\n", random.below(100));
                project.write(name, text.as_bytes());
                format!("edit {name}")
            }
            8 if !self.there.is_empty() => {
                let (path, text) = random.pick(&self.there).clone();
                project.write(&path, text.as_bytes());
                format!("touch {path}")
            }
            9 => {
                self.branches.truncate(BRANCHES - 1);
                self.branches.insert(0, self.there.clone());
                "keep a branch".to_owned()
            }
            10 if !self.branches.is_empty() => {
                let branch = random.pick(&self.branches).clone();
                self.go_to(project, &branch);
                "go to a branch".to_owned()
            }
            // Otherwise a header that nothing compiles with would be the last that is tried.
            11 => {
                self.go_to(project, &Self::first().there);
                "go back to the first headers".to_owned()
            }
            12 | 13 => self.switch(project, random),
            _ => "nothing".to_owned(),
        }
    }

    /// Makes a header read what it did not read, or the reverse.
    fn switch(&mut self, project: &mut Project, random: &mut Random) -> String {
        let has_one = |(_, text): &&(String, String)| SWITCH.iter().any(|way| text.contains(way));
        let all: Vec<_> = self.there.iter().filter(has_one).cloned().collect();
        if all.is_empty() {
            return "nothing".to_owned();
        }
        let (path, text) = random.pick(&all).clone();
        let [off, on] = SWITCH;
        let (from, to) = if text.contains(on) { (on, off) } else { (off, on) };
        self.put(project, &path, text.replace(from, to));
        format!("switch {path}")
    }
}

async fn walk(seed: u64) {
    let farm = Farm::builder().start().await;
    let mut project = start();
    let mut headers = Headers::first();
    let mut random = Random(seed);
    let (mut hits, mut remote) = (0, 0);
    for step in 0..STEPS {
        let what = headers.change(&mut project, &mut random);
        if random.below(RESTART_EVERY) == 0 {
            hits += farm.stats().await.hits();
            farm.stop_daemon().await;
        }
        let command = *random.pick(&COMMANDS);
        println!("seed {seed:#x}, step {step}: {what}, {command}");
        remote += project.same(&farm, &[command]).await;
    }
    hits += farm.stats().await.hits();
    let tenth = u64::from(STEPS) / 10;
    assert!(hits > tenth && remote > tenth, "{hits} hits and {remote} remote compiles");
    farm.finish().await;
}

#[tokio::test]
async fn no_change_goes_unnoticed() {
    walk(0x5eed_0001).await;
}

#[tokio::test]
async fn no_other_change_goes_unnoticed() {
    walk(0x5eed_0002).await;
}

#[tokio::test]
async fn nor_does_any_change_of_a_third_walk() {
    walk(0x5eed_0003).await;
}

#[tokio::test]
async fn nothing_is_started_for_a_command_seen_before() {
    let farm = Farm::builder().start().await;
    let mut project = start();
    project.same(&farm, &COMMANDS[..1]).await;
    // Beside the sources, where objects are written all the time.
    project.write("src/unrelated.o", b"x");
    project.write("inc0/unrelated", b"x");
    assert_eq!(project.same(&farm, &COMMANDS[..1]).await, 0);
    assert_eq!(farm.stats().await.hits(), 1);
    farm.finish().await;
}
