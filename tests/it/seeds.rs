//! The seeds of the fuzz targets are what this release really writes: fuzzing starts from there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use jetcc::client::ipc::{
    self, CompileRequest, Diagnostics, Frame as _, OsText, Reply, Request, Told,
};
use jetcc::job::reads::{PathList, Reads, ReadsAsked, Way};
use jetcc::job::toolchain::Reference;
use jetcc::job::wire::{
    self, ActionRecord, BlobClass, CacheUse, CallOff, FarmStatus, Findings, HelloReply, HoldWord,
    Holding, JobEnd, JobMessage, JobResult, Progress, Submit, SubmitReply, TreeDifference, Trouble,
    WorkerState, WrongBlob,
};
use jetcc::job::{
    Action, Command, Content, Difference, Digest, Exit, JobId, LocalReason, Node, Outcome, Output,
    Proof, Space, StepTimes, Terminal, Toolchain, Tree, TreePath, WantedOutput,
};
use jetcc::store::Compressed;
use jetcc::toolchain::{Packed, archive};
use nkeys::{KeyPair, KeyPairType};
use serde_json::json;

/// Content of one seed, by target and name.
type Seeds = Vec<(&'static str, String, Vec<u8>)>;

#[test]
fn seeds_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds: Seeds = wire();
    for (target, contents) in [
        ("tree", vec![tree().encode(), Tree::default().encode(), difference().encode()]),
        ("archive", archives()),
        ("depfile", depfiles()),
        ("blob", blobs()),
        ("callout", callers()),
        ("oidc", issuers()),
        ("ipc", frames()),
        ("elf", programs()),
        ("command", commands()),
        ("source", sources()),
        ("include", includes()),
    ] {
        let named = contents.into_iter().enumerate();
        seeds.extend(named.map(|(index, bytes)| (target, format!("seed-{index}"), bytes)));
    }
    let mut stale = Vec::new();
    for (target, name, bytes) in seeds {
        let path = Path::new(target).join(name);
        if fs::read(root.join("fuzz/corpus").join(&path)).ok().as_ref() != Some(&bytes) {
            let fresh = root.join("build/seeds").join(&path);
            fs::create_dir_all(fresh.parent().unwrap()).unwrap();
            fs::write(fresh, bytes).unwrap();
            stale.push(path);
        }
    }
    assert!(stale.is_empty(), "stale: {stale:?}\nhint: cp -r build/seeds/. fuzz/corpus");
}

fn wire() -> Seeds {
    let missing = Progress::Missing(vec![(BlobClass::Input, Digest::of(b"a"))]);
    let reply = SubmitReply::Accepted { proof: proof(), place: 7, outstanding: 3, slots: 8 };
    let hello = HelloReply::Welcome { space: Space::shared(), over_quota: Some("full".into()) };
    let holding = Holding { delivery: "JOBS.1.2.3".into(), proof: proof(), word: HoldWord::Finish };
    let wrong = WrongBlob {
        space: Space::shared(),
        class: BlobClass::Output,
        digest: Digest::of(b"a"),
        action: Some(action().key()),
    };
    let messages = [
        (0, "submit", wire::encode(&submit())),
        (1, "accepted", wire::encode(&reply)),
        (1, "cached", wire::encode(&SubmitReply::Cached(Box::new(record())))),
        (1, "busy", wire::encode(&SubmitReply::Busy { wait_seconds: 9 })),
        (1, "refused", wire::encode(&SubmitReply::Refused("no".into()))),
        (2, "call-off", wire::encode(&CallOff { job: job(), place: 7 })),
        (3, "job", wire::encode(&job_message())),
        (4, "missing", wire::encode(&missing)),
        (4, "running", wire::encode(&Progress::Running)),
        (4, "started", wire::encode(&Progress::Started { worker: id("w1") })),
        (5, "done", wire::encode(&result(JobEnd::Done(outcome())))),
        (5, "undone", wire::encode(&result(JobEnd::Undone(Trouble::TimedOut(600))))),
        (6, "record", wire::encode(&record())),
        (7, "worker", wire::encode(&worker())),
        (
            8,
            "farm",
            wire::encode(&FarmStatus {
                workers: vec![worker(); 2],
                outstanding: 3,
                findings: Findings::default(),
            }),
        ),
        (9, "references", wire::encode(&vec![reference()])),
        (10, "id", wire::encode(&job())),
        (13, "holding", wire::encode(&holding)),
        (14, "wrong-blob", wire::encode(&wrong)),
        (12, "hello", wire::encode(&hello)),
        (11, "reason", wire::encode(&LocalReason::UnknownFlag("-fnew".into()))),
    ];
    let kinds = messages.into_iter();
    kinds.map(|(kind, name, bytes)| ("wire", name.to_owned(), tagged(kind, &bytes))).collect()
}

/// The kind that a target reads from the first byte, and what follows.
fn tagged(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind], bytes].concat()
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn job() -> JobId {
    id("000102030405060708090a0b0c0d0e0f")
}

fn command() -> Command {
    Command {
        executable: "/usr/bin/x86_64-linux-gnu-gcc-14".into(),
        arguments: ["gcc", "-O2", "-c", "a.c", "-o", "a.o"].map(String::from).into(),
        environment: [("LANG", "C"), ("PATH", "/usr/bin")]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        directory: "/w".into(),
    }
}

fn action() -> Action {
    Action {
        pool: id("linux-x86_64"),
        toolchain: Digest::of(b"toolchain"),
        command: command(),
        inputs: tree().digest(),
        outputs: vec![WantedOutput { path: "a.o".into(), required: true }],
        terminal: Some(Terminal { columns: 80, input: None }),
    }
}

fn proof() -> Proof {
    Proof::new(&[7; 32], job(), &action().key(), &Space::shared(), 1_800_000_000_000)
}

fn submit() -> Submit {
    let zstd = |bytes: &[u8]| Some(Compressed::new(bytes).zstd);
    Submit {
        job: job(),
        action: action(),
        inputs_zstd: zstd(&tree().encode()),
        inputs_difference: Some(TreeDifference {
            base: Digest::of(b"base"),
            zstd: Compressed::new(&difference().encode()).zstd,
        }),
        files_zstd: zstd(b"int a;\n").into_iter().collect(),
        references: Digest::of(b"references"),
        deadline_unix_ms: 1_800_000_000_000,
        interactive: true,
        cache: CacheUse::ReadWrite,
        reads: Some(ReadsAsked { way: Way::Output("a.d".into()), always: read() }),
        announced: None,
        offers: true,
    }
}

fn read() -> PathList {
    PathList::new([path("/w/a.c"), path("/w/b.h")].into()).unwrap()
}

pub(crate) fn job_message() -> JobMessage {
    JobMessage {
        submit: submit(),
        client: id("c-0011223344556677"),
        tenant: id("team"),
        space: Space::shared(),
        proof: proof(),
        published_unix_ms: 1_700_000_000_000,
    }
}

fn outcome() -> Outcome {
    let inline = |bytes: &[u8]| Content::from(Compressed::new(bytes));
    let object = Content::Blob { digest: Digest::of(b"object"), size: 6 };
    Outcome {
        exit: Exit::Code(0),
        stdout: inline(b""),
        stderr: inline(b"a.c:1:5: warning: unused\n"),
        outputs: vec![
            Output { path: "a.o".into(), mode: 0o666, content: object },
            Output { path: "a.d".into(), mode: 0o666, content: inline(b"a.o: a.c\n") },
        ],
        unexpected: vec![path("/w/a.gcno")],
    }
}

fn result(end: JobEnd) -> JobResult {
    JobResult {
        job: job(),
        space: Space::shared(),
        deadline_unix_ms: 1_800_000_000_000,
        action: action().key(),
        proof: proof(),
        worker: id("w1"),
        end,
        times: StepTimes { run_ms: 12.5, ..StepTimes::default() },
        cache: CacheUse::Refresh,
        reads: Some(Reads {
            command: action().command_key(),
            whole: action().inputs,
            precise: Digest::of(b"precise"),
            paths: read(),
        }),
        delivery: Some("$JS.ACK.JOBS.linux-x86_64-n-p.1.7.3.1700000000000000000.2".into()),
    }
}

fn record() -> ActionRecord {
    ActionRecord {
        outcome: outcome(),
        worker: id("w1"),
        recorded_unix_ms: 1_700_000_000_000,
        run_ms: 12.5,
        reads: Some(read()),
    }
}

fn worker() -> WorkerState {
    WorkerState {
        worker: id("w1"),
        pool: id("linux-x86_64"),
        slots: 8,
        free: 5,
        running: 3,
        cores: 8,
        version: "0.1.0".into(),
        draining: false,
    }
}

fn reference() -> Reference {
    Reference {
        command: command(),
        source_path: "/r/reference.c".into(),
        source: "int f(void) { return 1; }\n".into(),
        object_path: "/r/reference.o".into(),
        object: Digest::of(b"object"),
    }
}

fn path(text: &str) -> TreePath {
    TreePath::try_from(text).unwrap()
}

fn tree() -> Tree {
    let mut tree = Tree::default();
    let file = |bytes: &[u8], executable| Node::File {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        executable,
    };
    tree.insert(path("/usr/bin/gcc"), Node::Symlink { target: "gcc-14".into() });
    tree.insert(path("/usr/bin/gcc-14"), file(b"gcc", true));
    tree.insert(path("/usr/include"), Node::Directory);
    tree.insert(path("/w/a.c"), file(b"int a;\n", false));
    tree
}

/// What makes the tree of one that has another source and a header more.
fn difference() -> Difference {
    let mut base = tree();
    for name in ["/w/a.c", "/w/gone.h"] {
        let node = Node::File { digest: Digest::of(b""), size: 0, executable: false };
        base.insert(path(name), node);
    }
    Difference::between(&base, &tree()).unwrap()
}

fn archives() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let sources = [&b"gcc"[..], b"int a;\n"].map(|content| {
        let file = folder.path().join(Digest::of(content).to_string());
        fs::write(&file, content).unwrap();
        (Digest::of(content), file)
    });
    let packed = Packed {
        tree_digest: tree().digest(),
        toolchain: Toolchain { tree: tree(), references: vec![reference()] },
        path: "/usr/bin".into(),
        sources: sources.into(),
        seen: Vec::new(),
    };
    let file = folder.path().join("toolchain.tar.zst");
    archive::export(&packed, &file).unwrap();
    let bytes = fs::read(file).unwrap();
    let tar = zstd::decode_all(&bytes[..]).unwrap();
    // Kind, mode, lengths of name and content, name, content; see the target.
    let member = |kind: u8, name: &str, content: &[u8]| {
        let lengths = [name.len(), content.len()].map(|length| u8::try_from(length).unwrap());
        [&[kind, 0o166, lengths[0], lengths[1]], name.as_bytes(), content].concat()
    };
    let manifest = br#"{"version":1,"path":"","references":[]}"#;
    let members = [
        member(b'0', "jetcc-toolchain.json", manifest),
        member(b'5', "usr/", b""),
        member(b'L', "././@LongLink", b"usr/bin/a-long-name\0"),
        member(b'0', "usr/bin/cc", b"x"),
    ];
    vec![tagged(0, &bytes), tagged(1, &tar), tagged(2, &members.concat())]
}

fn depfiles() -> Vec<Vec<u8>> {
    let rules = [
        "a.o: a.c h.h \\\n /usr/include/stdio.h \\\n  h.h\n",
        "a.o: d\\ r/a\\#b$$c:d.h d\\ r/t\\\tb.h x\\y.h\n",
        "x y:z.o q\\ r$$.o: a.c\\\n b.h\nb.h:\n\na.o: \\\n a.c\r\n",
    ];
    rules.map(|rule| rule.as_bytes().to_vec()).into()
}

fn blobs() -> Vec<Vec<u8>> {
    let head = tagged(0, b"2\n0123456789ab\n700000");
    let frame = |bytes: &[u8]| tagged(1, &Compressed::new(bytes).zstd);
    vec![head, frame(b"int a;\n"), frame(&[0; 4_000]), frame(b"")]
}

fn callers() -> Vec<Vec<u8>> {
    let server = KeyPair::new_from_raw(KeyPairType::Server, [7; 32]).unwrap();
    let claims = json!({
        "iss": server.public_key(),
        "nats": {
            "user_nkey": "UABC", "server_id": {"id": "NABC"},
            "client_info": {"host": "127.0.0.1"},
            "connect_opts": {"user": "c1", "pass": "token"},
        },
    });
    let claims = claims.to_string();
    let input = format!("e30.{}", BASE64URL_NOPAD.encode(claims.as_bytes()));
    let signature = BASE64URL_NOPAD.encode(&server.sign(input.as_bytes()).unwrap());
    let worker = concat!(
        r#"{"typ":"JWT","alg":"HS256"}"#,
        "\0",
        r#"{"sub":"*","role":"worker","pools":["linux-x86_64"],"exp":4000000000}"#
    );
    vec![
        tagged(0, format!("{input}.{signature}").as_bytes()),
        tagged(1, claims.as_bytes()),
        tagged(2, b"c1\0the token that clients share"),
        tagged(3, worker.as_bytes()),
    ]
}

/// Pages of an issuer, and its tokens: the target signs what has a header and claims.
fn issuers() -> Vec<Vec<u8>> {
    let discovery =
        json!({"issuer": "https://id.example/", "jwks_uri": "https://id.example/keys"}).to_string();
    let point = BASE64URL_NOPAD.encode(&[1; 32]);
    let keys = json!({"keys": [
        {"kty": "RSA", "kid": "k", "use": "sig", "n": BASE64URL_NOPAD.encode(&[0xff; 256]), "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "e", "alg": "ES256", "x": point, "y": point},
        {"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": point},
    ]});
    let header = r#"{"typ":"JWT","alg":"EdDSA","kid":"k"}"#;
    let claims = concat!(
        r#"{"iss":"https://id.example/","aud":["farm"],"sub":"alice","org":"team-a","#,
        r#""groups":["compilers"],"iat":1700000000,"nbf":1700000000,"exp":4000000000}"#
    );
    let token = [header, claims, ""].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let page = r#"{"sub":"alice","email":"a@b","groups":["compilers"]}"#;
    vec![
        tagged(0, discovery.as_bytes()),
        tagged(1, keys.to_string().as_bytes()),
        tagged(2, format!("{header}\0{claims}").as_bytes()),
        tagged(3, token.as_bytes()),
        tagged(4, format!("{claims}\0{page}").as_bytes()),
    ]
}

fn frames() -> Vec<Vec<u8>> {
    let text = |text: &str| OsText::from(std::ffi::OsStr::new(text));
    let view = json!({"user": 1_000, "root": [1, 2], "mounts": 3});
    let compile = CompileRequest {
        program: text("gcc"),
        arguments: ["-c", "a.c"].map(text).into(),
        directory: text("/w"),
        environment: BTreeMap::from([(text("PATH"), text("/usr/bin:/bin"))]),
        umask: 0o022,
        diagnostics: Diagnostics::Terminal(Terminal { columns: 80, input: None }),
        view: serde_json::from_value(view).unwrap(),
        limit: Some("ulimit -v".into()),
    };
    let requests = [
        Request::Compile(Box::new(compile)),
        Request::Stats,
        Request::ZeroStats,
        Request::DistStatus,
        Request::Explain("a.c".into()),
        Request::Stop,
    ];
    let stderr = b"warning\n".to_vec();
    let replies = [
        Reply::Busy,
        Reply::Compiled { exit: Exit::Signal(11), stdout: Vec::new(), stderr },
        Reply::RunLocally,
        Reply::RunAndTell,
        Reply::Noted,
        Reply::Text("{}".into()),
    ];
    let written = |frames: Vec<std::io::Result<Vec<u8>>>| {
        frames.into_iter().flat_map(Result::unwrap).collect::<Vec<u8>>()
    };
    let mut stream = Vec::new();
    ipc::write_frame(&mut stream, &Request::Stop).unwrap();
    let told = Told { stdout: Vec::new(), stderr: b"a.c:1: warning".to_vec() };
    vec![
        tagged(0, &written(requests.iter().map(Request::encode).collect())),
        tagged(1, &written(replies.iter().map(Reply::encode).collect())),
        tagged(0, &stream),
        tagged(2, &told.encode().unwrap()),
    ]
}

/// Programs of both widths that name a loader, and no more than `elf(5)` asks for.
fn programs() -> Vec<Vec<u8>> {
    let loader = b"/lib64/ld-linux-x86-64.so.2\0";
    let length = u64::try_from(loader.len()).unwrap();
    let mut wide = vec![0; 0x40];
    wide[..6].copy_from_slice(b"\x7fELF\x02\x01");
    wide[0x20] = 0x40;
    wide[0x36] = 56;
    wide[0x38] = 1;
    let mut segment = vec![3, 0, 0, 0, 4, 0, 0, 0];
    for number in [0x78, 0, 0, length, length, 1] {
        segment.extend_from_slice(&number.to_le_bytes());
    }
    wide.extend([segment, loader.to_vec()].concat());
    let mut narrow = vec![0; 0x40];
    narrow[..6].copy_from_slice(b"\x7fELF\x01\x02");
    narrow[0x1f] = 0x40;
    narrow[0x2b] = 32;
    narrow[0x2d] = 1;
    let short = u32::try_from(loader.len()).unwrap();
    for number in [3, 0x60, 0, 0, short, short, 4, 1] {
        narrow.extend_from_slice(&u32::to_be_bytes(number));
    }
    narrow.extend_from_slice(loader);
    vec![wide, narrow]
}

/// A kind of compiler, arguments, and response files.
fn commands() -> Vec<Vec<u8>> {
    let lines = [
        (0, "-O2\0-g\0-Wall\0-Iinc\0-DX=1\0-MD\0-MF\0a.d\0-c\0a.c\0-o\0a.o"),
        (1, "@a.rsp\0-std=c++20\0\0a.rsp\0-c @b.rsp '-DS=\"a b\"'\0b.rsp\0a.cc -fPIC"),
        (2, "--target=aarch64-linux-gnu\0-fcolor-diagnostics\0-S\0a.c"),
        (3, "-gsplit-dwarf\0-include\0pre.h\0-isystem\0/opt/inc\0-x\0c++\0-c\0a.h"),
        (0, "-o\0a.out\0a.c"),
    ];
    lines.map(|(kind, line)| tagged(kind, line.as_bytes())).into()
}

fn includes() -> Vec<Vec<u8>> {
    let texts = [
        "#include <a.h>\n # /* b */ include_next \"b c.h\" // d\n%:import<e/f.h>\n",
        "#define A_H \"a.h\"\n#define B_H <b.h> /* b */\n#define C(x) #x\n#include A_H\n\
         #include C(c.h)\n",
        "/* a\n * #include <b.h>\n */ #include <c.h>\n#inc\\\nlude \\\n \"d.h\"\n?\u{3f}=include <e.h>\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

fn sources() -> Vec<Vec<u8>> {
    let texts = [
        "#include <stdio.h>\n#if defined(__has_include) && __has_include(<a/b.h>)\n\
         #  elif __has_include ( \"c d.h\" )\n#endif\nconst char *when = __DATE__;\n",
        "# 1 \"a.c\"\n#line 7 \"dir/p \\\"q\\\\.y\"\r\nasm(\".incbin \\\"x\\\"\");\n\
         #define XXH_HAS_INCLUDE(x) __has_include(x)\n#pragma once\n/**//**/ // a ## b\n",
        "#pragma GCC dependency \"x\"\n#embed \"y\"\nint __TI\\\nME__;\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
