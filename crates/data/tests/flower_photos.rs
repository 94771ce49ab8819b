//! Tests with the flower photos, if the environment variable `ALEXNET_FLOWER_PHOTOS` is the path of
//! their archive.

use std::{env, fs::File, io::Read};

use alexnet_data::{
    augment::{Augmentation, variation},
    decode::{Options, decode_bytes, decode_bytes_crop},
    resize::resize,
};
use flate2::read::GzDecoder;

#[test]
fn partially_decoded_crops_are_those_of_the_whole_image() {
    let Ok(archive) = env::var("ALEXNET_FLOWER_PHOTOS") else {
        eprintln!("skipped: no photos");
        return;
    };
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(archive).unwrap()));
    let mut images = 0;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if path.extension().is_none_or(|extension| extension != "jpg") {
            continue;
        }
        let mut file = vec![];
        entry.read_to_end(&mut file).unwrap();
        let whole = decode_bytes(&path, &file, Options::default()).unwrap().image;
        let crop = variation(&Augmentation::TUTORIAL, (0, 0, images), whole.dimensions(), 224).crop;
        let (part, place) =
            decode_bytes_crop(&path, &mut file, Options::default(), |_, _| crop).unwrap();
        assert!(
            resize(&part.image, place, 224, 224) == resize(&whole, crop, 224, 224),
            "{}: {crop:?}",
            path.display()
        );
        images += 1;
    }
    assert_eq!(images, 3670);
}
