//! What is done later to the acknowledged writes of a probe, so that what comes back can be told.

use std::path::PathBuf;

use crate::asks::{At, HttpMethod, HttpRequest, HttpSpec, UrlHost};
use crate::input::InputError;

/// Of six requests of a writing probe the third updates and the sixth deletes an acknowledged write,
/// where that is declared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrites {
    /// Holds `{version}` beside `{id}`; a write begins as version 1.
    pub update: Option<HttpRequest>,
    pub delete: Option<HttpRequest>,
}

/// As it is written beside `readBack`.
pub(super) struct RewritesSpec {
    pub update: Option<HttpSpec>,
    pub delete: Option<HttpSpec>,
    /// Whether acknowledged writes are read back at all.
    pub read_back: bool,
}

impl Rewrites {
    pub(super) fn read(spec: RewritesSpec, at: &At<'_>) -> Result<Self, InputError> {
        let RewritesSpec {
            update,
            delete,
            read_back,
        } = spec;
        let read = |http: Option<HttpSpec>, word: &str, method, known: &[&str]| {
            let Some(http) = http else { return Ok(None) };
            let at = at.below(word);
            if !read_back {
                let message =
                    format!("{word} is for writes that are read back, and readBack is missing");
                return Err(at
                    .wrong_key(message)
                    .with_hint("write readBack: URL beside it, with {id}"));
            }
            rewrite(http.or_method(method), known, &at).map(Some)
        };
        Ok(Self {
            update: read(update, "update", HttpMethod::Put, &["id", "version"])?,
            delete: read(delete, "delete", HttpMethod::Delete, &["id"])?,
        })
    }

    /// Files that they name; relative ones are relative to the fleet file.
    pub(crate) fn files(&mut self) -> Vec<&mut PathBuf> {
        let requests = self.update.iter_mut().chain(&mut self.delete);
        requests.filter_map(|http| http.trust.file()).collect()
    }
}

/// One request; all of `known` must be in it, or nobody could say what it does to which write.
fn rewrite(spec: HttpSpec, known: &[&str], at: &At<'_>) -> Result<HttpRequest, InputError> {
    let http = HttpRequest::checked(spec, UrlHost::Cell, known, at)?;
    if http.method == HttpMethod::Get {
        let valid = ["POST", "PUT", "PATCH", "DELETE"];
        let error = at.below("method").wrong("a GET changes nothing");
        return Err(error.with_valid(valid));
    }
    let body = http.body.as_deref().unwrap_or_default();
    for name in known {
        let placeholder = format!("{{{name}}}");
        if http.url.contains(&placeholder) || body.contains(&placeholder) {
            continue;
        }
        let question = match *name {
            "version" => "what is the write to become?",
            _ => "which write is meant?",
        };
        let message = format!("neither url nor body holds {placeholder}: {question}");
        return Err(at.below("url").wrong(message));
    }
    Ok(http)
}
