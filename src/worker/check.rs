//! What a worker agrees to run: checked again here, whatever the client and the scheduler said.

use crate::compiler::allow;
use crate::job::wire::{Submit, Trouble};
use crate::job::{Command, Kind, Tree};

/// Most wanted outputs of one job.
const OUTPUTS_MAX: usize = 64;
/// Most bytes of arguments and environment together; Linux itself allows 2 MiB.
const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Checks what can be seen without the trees.
pub(super) fn submit(submit: &Submit) -> Result<(), Trouble> {
    let outputs = &submit.action.outputs;
    if outputs.len() > OUTPUTS_MAX {
        return refuse(format!("{} outputs, wanted at most {OUTPUTS_MAX}", outputs.len()));
    }
    if let Some(output) = outputs.iter().find(|output| output.path.contains('\0')) {
        return refuse(format!("output `{:?}` is no path", output.path));
    }
    Ok(())
}

/// Checks the size of all input files.
pub(super) fn inputs(tree: &Tree, bytes_max: u64) -> Result<(), Trouble> {
    let bytes = tree.files().map(|(_, size)| size).fold(0, u64::saturating_add);
    if bytes > bytes_max {
        return refuse(format!("inputs have {bytes} bytes, wanted at most {bytes_max}"));
    }
    Ok(())
}

/// Checks that no compiler of the toolchain takes an input for code.
pub(super) fn code(command: &Command, inputs: &Tree, toolchain: &Tree) -> Result<(), Trouble> {
    allow::check_inputs(command, inputs, toolchain).map_err(Trouble::Refused)
}

/// Checks a command over its toolchain; the executable has to come with that. Tells what it is.
pub(super) fn command(command: &Command, toolchain: &Tree) -> Result<Kind, Trouble> {
    let kind = allow::check(command, toolchain).map_err(Trouble::Refused)?;
    let Command { arguments, environment, .. } = command;
    let variables = environment.iter().flat_map(|(name, value)| [name, value]);
    let texts = || arguments.iter().chain(variables.clone());
    let bytes: usize = texts().map(|text| text.len() + 1).sum();
    if bytes > COMMAND_BYTES_MAX {
        return refuse(format!("command has {bytes} bytes, wanted at most {COMMAND_BYTES_MAX}"));
    }
    if let Some(text) = texts().find(|text| text.contains('\0')) {
        return refuse(format!("`{text:?}` contains a zero byte"));
    }
    if let Some(name) = environment.keys().find(|name| name.is_empty() || name.contains('=')) {
        return refuse(format!("`{name}` is no name of a variable"));
    }
    Ok(kind)
}

fn refuse<T>(text: String) -> Result<T, Trouble> {
    Err(Trouble::Refused(text))
}
