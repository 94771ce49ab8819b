use serde_json::json;

use crate::{classifier, png, post, server};

/// Returns form data with files.
fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = vec![];
    for (name, file) in files {
        form.extend(
            format!(
                "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\r\n"
            )
            .bytes(),
        );
        form.extend(*file);
        form.extend(b"\r\n");
    }
    form.extend(b"--b--\r\n");
    form
}

/// Form data with a field that is not a file.
const TEXT_FIELD: &[u8] =
    b"--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nx\r\n--b--\r\n";

const FORM: [(&str, &str); 1] = [("content-type", "multipart/form-data; boundary=b")];

#[test]
fn one_image_gets_the_bits_of_the_library() {
    let file = png(300, 200, 1);
    let answer = post(server(), "/predict?topk=2", &[], &file);
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = classifier().predict(&file).unwrap();
    let top: Vec<_> = expected
        .top(2)
        .iter()
        .map(|class| json!({"class": class.name, "probability": class.probability}))
        .collect();
    let best = expected.best();
    // JSON keeps all bits of a number.
    assert_eq!(
        answer.json(),
        json!([{"path": "-", "class": best.name, "probability": best.probability, "top": top}])
    );
}

#[test]
fn several_images_get_their_own_answers_in_order() {
    let images: Vec<Vec<u8>> = (0..5).map(|seed| png(240, 260, seed * 11)).collect();
    let names = ["a.png", "b.png", "c.png", "d.png", "e.png"];
    let mut files: Vec<_> = names.into_iter().zip(images.iter().map(Vec::as_slice)).collect();
    files.insert(2, ("words.txt", b"words"));
    let answer = post(server(), "/predict", &FORM, &form(&files));
    assert_eq!(answer.status, 200, "{answer:?}");
    let rows = answer.json();
    let paths: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["path"].clone()).collect();
    assert_eq!(paths, ["a.png", "b.png", "words.txt", "c.png", "d.png", "e.png"]);
    assert!(rows[2]["error"].as_str().unwrap().contains("not a JPEG"), "{rows}");
    let mut classifier = classifier();
    for (row, image) in [0, 1, 3, 4, 5].into_iter().zip(&images) {
        let expected = classifier.predict(image).unwrap();
        let found = rows[row]["probability"].as_f64().unwrap();
        assert_eq!(rows[row]["class"], expected.best().name);
        assert!((found - expected.best().probability).abs() < 1e-6, "{row}");
    }
}

#[test]
fn without_an_image_the_request_is_refused() {
    for (headers, body, status, message) in [
        (&[][..], &b""[..], 400, "the request has no image"),
        (&FORM, b"--b--\r\n", 400, "the request has no image"),
        (&FORM, b"--b\r\nbroken", 400, "the form data is damaged"),
        (&FORM, TEXT_FIELD, 400, "the field `note` of the form has no file name"),
        (&[("content-type", "multipart/form-data")], b"x", 400, "the form data is damaged"),
        (&[("content-encoding", "gzip")], b"x", 415, "without `Content-Encoding`"),
    ] {
        let answer = post(server(), "/predict", headers, body);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.error().contains(message), "{answer:?}");
    }
    let many = vec![("a.png", &b"x"[..]); 33];
    assert_eq!(post(server(), "/predict", &FORM, &form(&many)).status, 413);
    let unreadable = post(server(), "/predict", &[], b"words");
    assert_eq!((unreadable.status, unreadable.json()[0]["path"].as_str()), (422, Some("-")));
    let bomb = post(server(), "/predict", &[], b"P6\n50000 1001\n255\n");
    assert_eq!(bomb.status, 422, "{bomb:?}");
    assert!(bomb.json()[0]["error"].as_str().unwrap().contains("limit is 50000000"), "{bomb:?}");
}

#[test]
fn wrong_options_are_refused() {
    let file = png(30, 20, 1);
    for query in ["topk=0", "topk=65536", "topk=-1", "topk=many", "topK=2", "topk=1&topk=2"] {
        let answer = post(server(), &format!("/predict?{query}"), &[], &file);
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert!(!answer.error().is_empty());
    }
    let all = post(server(), "/predict?topk=65535", &[], &file);
    assert_eq!(all.json()[0]["top"].as_array().unwrap().len(), 5);
}
