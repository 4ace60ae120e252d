//! `logs check`: proves checksums, numbering and books from the files.

use std::{path::Path, sync::Arc};

use logstore::{
    catalog::verify::verify,
    check::CheckReport,
    fs::{Fs, StdFs},
};

use super::{FOUND, NOTHING, Surroundings, TROUBLE, Trouble};

pub(super) fn run(
    data_dir: &Path,
    deep: bool,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let report = verify(&fs, data_dir, deep).map_err(std::io::Error::other)?;
    let CheckReport { files, bytes, batches, lines, records, interrupted, starts, open, .. } =
        &report;
    let CheckReport { segments, segment_rows, segment_bytes, .. } = &report;
    let how = if deep { "every row read" } else { "footers read; --deep reads every row" };
    writeln!(
        around.out,
        "segments     {segments} ({segment_rows} rows, {segment_bytes} bytes; {how})"
    )?;
    writeln!(around.out, "files        {files} ({bytes} bytes)")?;
    writeln!(around.out, "batches      {batches} (with a checksum that fits)")?;
    writeln!(around.out, "lines        {lines}")?;
    writeln!(around.out, "records      {records} ({interrupted} interrupted)")?;
    if report.bodies > 0 {
        writeln!(around.out, "bodies       {} (not sealed yet)", report.bodies)?;
    }
    writeln!(around.out, "starts       {starts}")?;
    writeln!(around.out, "unfinished   {open}")?;
    for note in &report.notes {
        writeln!(around.out, "note: {note}")?;
    }
    for finding in &report.findings {
        writeln!(around.out, "WRONG: {finding}")?;
    }
    if report.findings_left_out > 0 {
        writeln!(around.out, "WRONG: and {} more findings", report.findings_left_out)?;
    }
    if report.files == 0 && report.segments == 0 {
        writeln!(around.out, "nothing to check")?;
        return Ok(TROUBLE);
    }
    let consistent = report.is_consistent();
    let verdict =
        if consistent { "the books are consistent" } else { "the books are NOT consistent" };
    writeln!(around.out, "{verdict}")?;
    Ok(if consistent { FOUND } else { NOTHING })
}
