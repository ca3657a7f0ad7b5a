//! Why a compile ran on the client. Every fallback has one of these, counted and explained.

use serde::{Deserialize, Serialize};

/// Why a compile ran locally.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LocalReason {
    // --- what the command line says ---
    /// More than one source file.
    SeveralSources,
    /// A flag that only the local machine can serve; its text.
    Flag(String),
    /// A flag of unknown arity; its text.
    UnknownFlag(String),
    /// Source comes from standard input.
    StandardInput,
    /// A probe of a configure system; which.
    ConfigureProbe(String),
    /// The source's language is not one that travels; its name or extension.
    Language(String),
    /// A response file that could not be read or parsed; its path.
    ResponseFile(String),
    /// An argument, path or variable that is not UTF-8.
    NotUtf8,
    /// An environment variable that makes the compiler write elsewhere; its name.
    Environment(String),
    /// A tight limit on the wrapper's resources; as `ulimit` names it.
    ResourceLimit(String),
    /// The compiler has messages for a terminal.
    Terminal,
    /// The wrapper is another user than the daemon, or sees other files.
    OtherView,
    // --- what the files say ---
    /// `__TIME__`, `__DATE__` or `__TIMESTAMP__` in a file.
    TimeMacro(String),
    /// `.incbin` or `.include` in a file.
    AssemblerInclude(String),
    /// An include test whose answer depends on names we cannot resolve.
    UnresolvedIncludeTest(String),
    /// A precompiled header stands beside a header, or a file is one; its path.
    PrecompiledHeader(String),
    /// Two inputs have the same content, and only here do they differ or are they one; the second.
    TwinFiles(String),
    /// The dependency pass failed: the compile will fail the same way.
    DependencyPass,
    /// A file changed while it was compiled.
    InputChanged(String),
    /// An input that cannot be read or is neither file, link nor directory.
    UnreadableInput(String),
    /// The inputs are larger than what travels; how large.
    TooLarge(String),
    /// Workers fail to compile this crate, and this machine does not; its name.
    OnlyHere(String),
    /// The folder of an output does not exist or cannot be written, or the output is special.
    OutputTarget(String),
    // --- the toolchain ---
    /// The compiler could not be packed; why.
    Toolchain(String),
    /// The compiler is a script that changes the command.
    CompilerScript(String),
    // --- the farm ---
    /// Distribution is switched off by settings.
    Disabled,
    /// No connection to NATS; why.
    NoServer(String),
    /// No scheduler answered.
    NoScheduler,
    /// The scheduler refused the request; its words.
    Refused(String),
    /// There is no token to show the farm; why.
    NotLoggedIn(String),
    /// No worker serves this pool.
    NoWorker,
    /// The tenant has used up what it may; which limit.
    OverQuota(String),
    /// The queue is longer than a local compile; expected wait in seconds.
    QueueTooLong(u32),
    /// No word from the worker within the limit.
    WorkerLost,
    /// The worker could not run it; its words.
    WorkerTrouble(String),
    /// A blob could not be stored or fetched; why.
    Store(String),
    /// The remote compiler failed: the local one has the last word.
    RemoteFailed,
    /// The compile wrote files that nobody asked for; the first of them.
    UnexpectedOutput(String),
    /// A result broke the protocol's rules; which.
    BadResult(String),
    /// Outputs could not be written; why.
    WriteOutput(String),
    /// The daemon could not be reached or went away.
    NoDaemon,
    /// The daemon is stopping.
    Stopping,
}

impl LocalReason {
    /// Short stable word, for counters and for looking the reason up in `docs/reasons.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SeveralSources => "several-sources",
            Self::Flag(_) => "flag",
            Self::UnknownFlag(_) => "unknown-flag",
            Self::StandardInput => "standard-input",
            Self::ConfigureProbe(_) => "configure-probe",
            Self::Language(_) => "language",
            Self::ResponseFile(_) => "response-file",
            Self::NotUtf8 => "not-utf8",
            Self::Environment(_) => "environment",
            Self::ResourceLimit(_) => "resource-limit",
            Self::Terminal => "terminal",
            Self::OtherView => "other-view",
            Self::TimeMacro(_) => "time-macro",
            Self::AssemblerInclude(_) => "assembler-include",
            Self::UnresolvedIncludeTest(_) => "include-test",
            Self::PrecompiledHeader(_) => "precompiled-header",
            Self::TwinFiles(_) => "twin-files",
            Self::DependencyPass => "dependency-pass",
            Self::InputChanged(_) => "input-changed",
            Self::UnreadableInput(_) => "unreadable-input",
            Self::TooLarge(_) => "too-large",
            Self::OnlyHere(_) => "only-here",
            Self::OutputTarget(_) => "output-target",
            Self::Toolchain(_) => "toolchain",
            Self::CompilerScript(_) => "compiler-script",
            Self::Disabled => "disabled",
            Self::NoServer(_) => "no-server",
            Self::NoScheduler => "no-scheduler",
            Self::Refused(_) => "refused",
            Self::NotLoggedIn(_) => "not-logged-in",
            Self::NoWorker => "no-worker",
            Self::OverQuota(_) => "over-quota",
            Self::QueueTooLong(_) => "queue-too-long",
            Self::WorkerLost => "worker-lost",
            Self::WorkerTrouble(_) => "worker-trouble",
            Self::Store(_) => "store",
            Self::RemoteFailed => "remote-failed",
            Self::UnexpectedOutput(_) => "unexpected-output",
            Self::BadResult(_) => "bad-result",
            Self::WriteOutput(_) => "write-output",
            Self::NoDaemon => "no-daemon",
            Self::Stopping => "stopping",
        }
    }

    /// The variable part: a flag, a path, a cause.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Flag(text)
            | Self::UnknownFlag(text)
            | Self::ConfigureProbe(text)
            | Self::Language(text)
            | Self::ResponseFile(text)
            | Self::Environment(text)
            | Self::ResourceLimit(text)
            | Self::TimeMacro(text)
            | Self::AssemblerInclude(text)
            | Self::UnresolvedIncludeTest(text)
            | Self::PrecompiledHeader(text)
            | Self::TwinFiles(text)
            | Self::InputChanged(text)
            | Self::UnreadableInput(text)
            | Self::TooLarge(text)
            | Self::OnlyHere(text)
            | Self::OutputTarget(text)
            | Self::Toolchain(text)
            | Self::CompilerScript(text)
            | Self::NoServer(text)
            | Self::Refused(text)
            | Self::OverQuota(text)
            | Self::NotLoggedIn(text)
            | Self::WorkerTrouble(text)
            | Self::Store(text)
            | Self::UnexpectedOutput(text)
            | Self::BadResult(text)
            | Self::WriteOutput(text) => Some(text.clone()),
            Self::QueueTooLong(seconds) => Some(format!("{seconds} s")),
            _ => None,
        }
    }

    /// Whether no farm ran it that might have: there is none, or it could not.
    pub fn is_of_no_farm(&self) -> bool {
        matches!(
            self,
            Self::Disabled
                // It was read here: what is missing is its upload, or its proof.
                | Self::Toolchain(_)
                | Self::NoServer(_)
                | Self::NoScheduler
                | Self::Refused(_)
                | Self::NotLoggedIn(_)
                | Self::NoWorker
                | Self::OverQuota(_)
                | Self::QueueTooLong(_)
                | Self::WorkerLost
                | Self::WorkerTrouble(_)
                | Self::Store(_)
        )
    }

    /// Whether the farm, not the command, is the cause: these count as distribution errors.
    pub fn is_our_trouble(&self) -> bool {
        match self {
            // Nobody wanted a farm.
            Self::Disabled => false,
            Self::RemoteFailed
            | Self::UnexpectedOutput(_)
            | Self::BadResult(_)
            | Self::WriteOutput(_)
            | Self::NoDaemon => true,
            other => other.is_of_no_farm(),
        }
    }
}

impl std::fmt::Display for LocalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.detail() {
            Some(detail) => write!(f, "{}: {detail}", self.code()),
            None => f.write_str(self.code()),
        }
    }
}
