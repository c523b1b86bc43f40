//! The panics that are documented: their message, and that they name the caller's file. A binary of
//! its own, since the panic hook is one for all.

use std::{
    panic::{Location, catch_unwind, set_hook, take_hook},
    sync::{Arc, Mutex},
};

use tower_load_leveling::LoadLevelLayer;

#[test]
fn new_panics_on_a_limit_of_zero_and_names_the_caller() {
    let place = Arc::new(Mutex::new(None));
    let hook = take_hook();
    set_hook(Box::new({
        let place = Arc::clone(&place);
        move |info| {
            let place_of =
                info.location().map(|location: &Location<'_>| location.file().to_owned());
            *place.lock().expect("not poisoned") = place_of;
        }
    }));
    let panic = catch_unwind(|| LoadLevelLayer::new(1, 0));
    set_hook(hook);
    let text = *panic.expect_err("limit 0 is not possible").downcast::<String>().expect("a text");
    assert_eq!(
        text,
        "`LoadLevelLayer::new` cannot make this layer: invalid `concurrency`: 0, expected 1 to \
         536869887"
    );
    assert_eq!(place.lock().expect("not poisoned").as_deref(), Some(file!()));
}
