//! Many levelers in front of one backend, played in virtual time.

mod figures;
mod play;
mod replica;
mod tests;
