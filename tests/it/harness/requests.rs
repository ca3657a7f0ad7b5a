//! Requests of clients that keep to the protocol and nothing else: real compiles, written by hand.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jetcc::config::Environment;
use jetcc::job::wire::{self, CacheUse, Submit};
use jetcc::job::{Action, Command, Digest, JobId, Node, Pool, Tree, TreePath, WantedOutput};
use jetcc::queue::{Connection, Login, Patience, Secret, TlsSettings, subjects, submit};
use jetcc::store::Compressed;
use jetcc::store::stamps::FileIndex;
use jetcc::toolchain::{self, Packed, Resolved};

use super::farm::{Farm, JETCC};

/// Connects to `farm` as the client of this name.
pub(crate) async fn join(farm: &Farm, name: &str, token: &str) -> (submit::Farm, Connection) {
    let login = Login {
        url: farm.nats_url().to_owned(),
        tls: TlsSettings::default(),
        user: name.to_owned(),
        password: Secret::new(token).into(),
        inbox: subjects::inbox(name),
    };
    let connection = Connection::open(&login, "test", Patience::None).await.unwrap();
    let joined = submit::Farm::join(connection.clone(), name.parse().unwrap()).await.unwrap();
    (joined, connection)
}

/// This machine's compiler of that name.
pub(crate) async fn compiler(name: &str) -> (Resolved, Packed) {
    let path = Environment::capture().text("PATH").unwrap();
    let environment = BTreeMap::from([("PATH".into(), path.into())]);
    let found = toolchain::resolve(name, "/".as_ref(), &environment, JETCC.as_ref()).await;
    let compiler = found.unwrap();
    let index = FileIndex::<()>::new(100_000, |_| ());
    let packed = toolchain::collect(&compiler, &index, &toolchain::Settings::default()).await;
    (compiler, packed.unwrap())
}

/// Asks to run `command` (words separated by blanks) in `/w` over the one file `source` of this digest
/// and size, which gives `output`; waited for so long, and not answered from what is known.
pub(crate) async fn request(
    command: &str,
    source: &str,
    (digest, size): (Digest, u64),
    output: &str,
    within: Duration,
) -> Submit {
    let words: Vec<String> = command.split_whitespace().map(Into::into).collect();
    let (compiler, packed) = compiler(&words[0]).await;
    let mut tree = Tree::default();
    let path = TreePath::try_from(format!("/w/{source}")).unwrap();
    tree.insert(path, Node::File { digest, size, executable: false });
    let encoded = tree.encode();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Submit {
        job: JobId::random().unwrap(),
        action: Action {
            pool: Pool::of_this_machine(),
            toolchain: packed.tree_digest,
            command: Command {
                executable: compiler.executable.display().to_string(),
                arguments: words,
                environment: BTreeMap::from([("PATH".into(), packed.path.clone())]),
                directory: "/w".into(),
            },
            inputs: Digest::of(&encoded),
            outputs: vec![WantedOutput { path: output.into(), required: true }],
            terminal: None,
        },
        inputs_zstd: Some(Compressed::new(&encoded).zstd),
        inputs_difference: None,
        files_zstd: Vec::new(),
        references: Digest::of(&wire::encode(&packed.toolchain.references)),
        deadline_unix_ms: u64::try_from((now + within).as_millis()).unwrap(),
        interactive: false,
        cache: CacheUse::Off,
        reads: None,
        announced: None,
        offers: false,
    }
}
