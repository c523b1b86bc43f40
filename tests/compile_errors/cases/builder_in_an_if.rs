//~ E0308
//~ `if` and `else` have incompatible types
use tower_load_leveling::{Class, ClassifyRequest, LoadLevelLayer, Unclassified};

fn main() {
    let is_fair = std::env::args().count() > 1;
    let flow = |request: &u32| Class::new().flow(request);
    let builder = LoadLevelLayer::builder().concurrency(1);
    let builder = if is_fair {
        builder.request_classifier(flow) // wrong
    // right: builder.request_classifier(flow.boxed())
    } else {
        builder // wrong
        // right: builder.request_classifier(Unclassified::new().boxed())
    };
    drop(builder.build());
}
