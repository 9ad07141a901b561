//! Chat templates rendered in a process of their own.
//!
//! A template is a foreign program: it may nest values deeper than a stack is deep, double lists until memory is gone, or
//! never end. None of that can be taken back from a thread, and a process can be given up: it has limits of memory, stack
//! and time, and one that oversteps them takes nobody with it. It is kept between conversations, and replaced when it ends.

mod child;
mod parent;
mod wire;

pub use child::render_templates;
pub(crate) use parent::TemplateProcess;
pub(crate) use wire::Conversation;
