/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// It works, but somebody should look at it.
    Warning,
    /// The pipeline would not start, or not go on for long.
    Error,
}

/// One thing that `mainstem check` found, before anything was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and where.
    pub message: String,
    /// What to run or set to mend it: a statement, word for word.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something that stops the pipeline.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), remedy: None }
    }

    /// Something to look at.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, message: message.into(), remedy: None }
    }

    /// Something good to know.
    pub fn note(message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, message: message.into(), remedy: None }
    }

    /// With the statement that mends it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
