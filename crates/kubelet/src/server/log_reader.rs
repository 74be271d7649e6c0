//! Reads a container's log as the runtime writes it: `TIME STREAM TAGS TEXT` per line, where tag `P` says that the
//! line goes on in the next entry. The file may be rotated while it is followed. Only the piece being read
//! is in memory; a reader that is dropped leaves nothing behind.

use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::Instant;

/// What is wanted of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The last so many lines.
    pub tail: Option<u64>,
    pub follow: bool,
    /// Begin each line with its time.
    pub timestamps: bool,
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
    /// `stdout` or `stderr` alone.
    pub stream: Option<&'static str>,
}

/// Whether the container may still write.
#[async_trait]
pub trait Alive: Send + Sync {
    async fn is_alive(&self) -> bool;
}

const CHUNK: usize = 64 << 10;
/// An entry longer than this is no entry.
const LONGEST: usize = 1 << 20;
const POLL: Duration = Duration::from_millis(100);
/// How often the runtime is asked about a container whose log is at its end.
const ALIVE: Duration = Duration::from_secs(1);

pub struct Reader<A> {
    path: PathBuf,
    file: File,
    inode: u64,
    options: Options,
    alive: A,
    buffer: BytesMut,
    /// The entry before was not the end of its line.
    in_line: bool,
    left: Option<u64>,
    asked: Option<Instant>,
    /// The container had ended, or the file been rotated, when the end was last met: meeting it again is final.
    last_round: Round,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Ordinary,
    Ended,
    Rotated,
}

impl<A: Alive> Reader<A> {
    pub async fn open(path: PathBuf, options: Options, alive: A) -> io::Result<Reader<A>> {
        let mut file = File::open(&path).await?;
        let inode = file.metadata().await?.ino();
        if let Some(lines) = options.tail {
            let start = tail_start(&mut file, lines).await?;
            file.seek(SeekFrom::Start(start)).await?;
        }
        let left = options.limit_bytes;
        Ok(Reader {
            path,
            file,
            inode,
            options,
            alive,
            buffer: BytesMut::new(),
            in_line: false,
            left,
            asked: None,
            last_round: Round::Ordinary,
        })
    }

    /// The next text; `None` at the end.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = BytesMut::new();
        loop {
            if self.left == Some(0) {
                return Ok((!out.is_empty()).then(|| out.freeze()));
            }
            if self.take_entries(&mut out) {
                continue;
            }
            if out.len() >= CHUNK {
                return Ok(Some(out.freeze()));
            }
            self.buffer.reserve(CHUNK);
            if self.file.read_buf(&mut self.buffer).await? > 0 {
                if self.last_round == Round::Ended {
                    self.last_round = Round::Ordinary;
                }
                continue;
            }
            // What was read is returned before waiting for more.
            if !out.is_empty() {
                return Ok(Some(out.freeze()));
            }
            if !self.options.follow {
                return Ok(self.rest());
            }
            if !self.wait().await? {
                return Ok(self.rest());
            }
        }
    }

    /// Waits for more at the end of the file. False when there will be no more.
    async fn wait(&mut self) -> io::Result<bool> {
        match self.last_round {
            Round::Ended => return Ok(false),
            Round::Rotated => {
                self.file = File::open(&self.path).await?;
                self.inode = self.file.metadata().await?.ino();
                self.buffer.clear();
                self.last_round = Round::Ordinary;
                return Ok(true);
            }
            Round::Ordinary => {}
        }
        tokio::time::sleep(POLL).await;
        match tokio::fs::metadata(&self.path).await {
            Ok(metadata) if metadata.ino() != self.inode => self.last_round = Round::Rotated,
            // The file may be missing between its renaming and its reopening.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ if self.asked.is_none_or(|asked| asked.elapsed() >= ALIVE) => {
                self.asked = Some(Instant::now());
                if !self.alive.is_alive().await {
                    self.last_round = Round::Ended;
                }
            }
            _ => {}
        }
        Ok(true)
    }

    /// Moves whole entries from the buffer to `out`. True when the limit was met by it.
    fn take_entries(&mut self, out: &mut BytesMut) -> bool {
        while out.len() < CHUNK {
            let Some(end) = memchr(&self.buffer) else {
                if self.buffer.len() > LONGEST {
                    tracing::warn!(path = %self.path.display(), "Log entry without an end, skipped");
                    self.buffer.clear();
                }
                return false;
            };
            let line = self.buffer.split_to(end).freeze();
            self.buffer.advance(1);
            self.entry(&line, true, out);
            if self.left == Some(0) {
                return true;
            }
        }
        false
    }

    /// The entry after the last line end, which its writer did not finish.
    fn rest(&mut self) -> Option<Bytes> {
        let line = self.buffer.split().freeze();
        let mut out = BytesMut::new();
        self.entry(&line, false, &mut out);
        (!out.is_empty()).then(|| out.freeze())
    }

    fn entry(&mut self, line: &[u8], whole: bool, out: &mut BytesMut) {
        let Some(entry) = parse(line) else { return };
        if self.options.stream.is_some_and(|wanted| wanted.as_bytes() != entry.stream) {
            return;
        }
        if let Some(since) = self.options.since {
            let time = std::str::from_utf8(entry.time).ok().and_then(|time| time.parse::<Timestamp>().ok());
            if time.is_none_or(|time| time < since) {
                return;
            }
        }
        let start = out.len();
        if self.options.timestamps && !self.in_line {
            out.extend_from_slice(entry.time);
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(entry.text);
        if whole && !entry.partial {
            out.extend_from_slice(b"\n");
        }
        self.in_line = entry.partial;
        if let Some(left) = &mut self.left {
            let made = (out.len() - start) as u64;
            out.truncate(start + made.min(*left) as usize);
            *left -= made.min(*left);
        }
    }
}

struct Entry<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    if !time.first()?.is_ascii_digit() || !matches!(stream, b"stdout" | b"stderr") {
        return None;
    }
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Entry { time, stream, partial, text: parts.next().unwrap_or_default() })
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// Where the last `lines` lines begin.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    // The end of the last line does not begin another.
    let mut seen = 0;
    let mut first = true;
    let mut chunk = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let part = &mut chunk[..(end - start) as usize];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(part).await?;
        for (index, byte) in part.iter().enumerate().rev() {
            let last = std::mem::take(&mut first);
            if *byte == b'\n' && !last {
                seen += 1;
                if seen == lines {
                    return Ok(start + index as u64 + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[async_trait]
    impl Alive for Arc<AtomicBool> {
        async fn is_alive(&self) -> bool {
            self.load(Ordering::Relaxed)
        }
    }

    const LOG: &str = "\
2026-01-01T00:00:01.000000001Z stdout F one
2026-01-01T00:00:02.000000002Z stderr F two
2026-01-01T00:00:03.000000003Z stdout P thr
2026-01-01T00:00:03.000000004Z stdout P e
2026-01-01T00:00:03.000000005Z stdout F e
rubbish
2026-01-01T00:00:04.000000006Z stdout F
2026-01-01T00:00:05.000000007Z stdout F:tag five and  more
";

    async fn read(content: &str, options: Options) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let alive = Arc::new(AtomicBool::new(false));
        let mut reader = Reader::open(file.path().to_owned(), options, alive).await.unwrap();
        let mut all = Vec::new();
        while let Some(bytes) = reader.next().await.unwrap() {
            all.extend_from_slice(&bytes);
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn options() {
        let all = Options::default();
        let since: Timestamp = "2026-01-01T00:00:04Z".parse().unwrap();
        let table = [
            (all.clone(), "one\ntwo\nthree\n\nfive and  more\n"),
            (Options { tail: Some(0), ..all.clone() }, ""),
            (Options { tail: Some(1), ..all.clone() }, "five and  more\n"),
            (Options { tail: Some(2), ..all.clone() }, "\nfive and  more\n"),
            (Options { tail: Some(100), ..all.clone() }, "one\ntwo\nthree\n\nfive and  more\n"),
            (Options { since: Some(since), ..all.clone() }, "\nfive and  more\n"),
            (Options { limit_bytes: Some(6), ..all.clone() }, "one\ntw"),
            (Options { limit_bytes: Some(0), ..all.clone() }, ""),
            (Options { stream: Some("stderr"), ..all.clone() }, "two\n"),
            (
                Options { timestamps: true, tail: Some(6), ..all.clone() },
                "2026-01-01T00:00:03.000000003Z three\n2026-01-01T00:00:04.000000006Z \n2026-01-01T00:00:05.000000007Z five and  more\n",
            ),
            // The container has ended, so following ends, too.
            (Options { follow: true, tail: Some(1), ..all.clone() }, "five and  more\n"),
        ];
        for (options, want) in table {
            assert_eq!(read(LOG, options.clone()).await, want, "{options:?}");
        }
        assert_eq!(read("2026-01-01T00:00:01Z stdout F cut", all.clone()).await, "cut");
        assert_eq!(read("", all).await, "");
    }

    #[tokio::test]
    async fn long_logs_are_read_in_pieces() {
        let line = |number: usize| format!("2026-01-01T00:00:01Z stdout F line {number}\n");
        let content: String = (0..20_000).map(line).collect();
        let text = read(&content, Options { tail: Some(15_000), ..Options::default() }).await;
        assert!(text.starts_with("line 5000\n") && text.ends_with("line 19999\n"));
        assert_eq!(text.lines().count(), 15_000);
    }

    #[tokio::test]
    async fn following_goes_on_over_a_rotation_and_ends_with_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:01Z stdout F one\n").unwrap();
        let alive = Arc::new(AtomicBool::new(true));
        let options = Options { follow: true, ..Options::default() };
        let mut reader = Reader::open(path.clone(), options, alive.clone()).await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), "one\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"2026-01-01T00:00:02Z stdout F two\n").unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), "two\n");
        std::fs::rename(&path, folder.path().join("0.log.1")).unwrap();
        file.write_all(b"2026-01-01T00:00:03Z stdout F three\n").unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), "three\n");
        std::fs::write(&path, "2026-01-01T00:00:04Z stdout F four\n").unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), "four\n");
        alive.store(false, Ordering::Relaxed);
        assert_eq!(reader.next().await.unwrap(), None);
    }
}
