//! Inputs that are remembered are the inputs that the compiler would read: headers appear, change,
//! move and vanish at random, and every object equals the one of a fresh local compile.

use crate::harness::farm::Farm;
use crate::harness::project::Project;

const STEPS: u32 = 150;
const COMMAND: &str = "gcc -g -iquote quote -Iinc0 -Iinc1 -Iinc2 -c src/m.c -o m.o";
const SOURCE: &str = r#"
#include <x.h>
#include "y.h"
#include <sub/z.h>
#if __has_include(<opt/o.h>) || __has_include("q.h")
int optional = 1;
#endif
int all[] = { X, Y, Z };
"#;
const FOLDERS: [&str; 5] = ["src", "quote", "inc0", "inc1", "inc2"];
const HEADERS: [(&str, &str); 5] =
    [("x.h", "X"), ("y.h", "Y"), ("sub/z.h", "Z"), ("opt/o.h", "O"), ("q.h", "Q")];

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

fn start() -> Project {
    Project::new(&[
        ("src/m.c", SOURCE),
        ("src/y.h", "#define Y 1\n"),
        ("inc2/x.h", "#define X 1\n"),
        ("inc2/sub/z.h", "#define Z 1\n"),
        ("inc0/empty", ""),
        ("inc1/empty", ""),
        ("quote/empty", ""),
    ])
}

/// Changes something; mostly what matters.
fn change(project: &mut Project, random: &mut Random) -> String {
    let (header, name) = *random.pick(&HEADERS);
    let path = format!("{}/{header}", random.pick(&FOLDERS));
    match random.below(6) {
        0 | 1 => {
            project.write(&path, format!("#define {name} {}\n", random.below(100)).as_bytes());
            format!("write {path}")
        }
        2 => {
            project.remove(&path);
            format!("remove {path}")
        }
        3 => {
            let folder = random.pick(&["inc0/sub", "inc1/sub", "inc0/opt"]);
            project.remove(folder);
            format!("remove {folder}")
        }
        4 => {
            let text = format!("{SOURCE}int edited = {};\n", random.below(100));
            project.write("src/m.c", text.as_bytes());
            "edit src/m.c".to_owned()
        }
        _ => "nothing".to_owned(),
    }
}

#[tokio::test]
async fn no_change_goes_unnoticed() {
    let farm = Farm::builder().start().await;
    let mut project = start();
    let mut random = Random(0x5eed_0001);
    for step in 0..STEPS {
        let what = change(&mut project, &mut random);
        println!("step {step}: {what}");
        project.same(&farm, &[COMMAND]).await;
    }
    let stats = farm.stats().await;
    assert!(stats.hits() > 0, "nothing was ever known");
    farm.finish().await;
}

#[tokio::test]
async fn nothing_is_started_for_a_command_seen_before() {
    let farm = Farm::builder().start().await;
    let mut project = start();
    project.same(&farm, &[COMMAND]).await;
    // Beside the sources, where objects are written all the time.
    project.write("src/unrelated.o", b"x");
    project.write("inc0/unrelated", b"x");
    assert_eq!(project.same(&farm, &[COMMAND]).await, 0);
    assert_eq!(farm.stats().await.hits(), 1);
    farm.finish().await;
}
