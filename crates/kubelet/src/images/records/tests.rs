use super::*;
use cri::v1::{AuthConfig, Image};

const ID: &str = "sha256:a";
const IMAGE: &str = "h:5/p/web:v2";

struct Fixture {
    folder: tempfile::TempDir,
    records: Records,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::new(folder.path(), Policy::default());
    Fixture { folder, records }
}

fn credential(secret: &str, password: &str) -> Credential {
    let auth = AuthConfig { username: "u".into(), password: password.into(), ..Default::default() };
    let source = SecretName { namespace: "n".into(), name: secret.into(), uid: format!("uid-{secret}") };
    Credential::new(auth, "", source)
}

impl Fixture {
    fn allows(&self, who: &[Credential]) -> bool {
        self.records.allows(ID, IMAGE, who)
    }

    fn pull(&self, how: Pulled<'_>) {
        self.records.begin(IMAGE).unwrap().finished(ID, how).unwrap();
    }

    fn file(&self, folder: &str, key: &str) -> PathBuf {
        path(&self.folder.path().join("image_manager").join(folder), key)
    }
}

#[test]
fn an_image_is_for_those_who_could_pull_it() {
    let it = fixture();
    let (one, two) = (credential("one", "1"), credential("two", "2"));
    assert!(it.allows(&[]), "it was here before the kubelet");
    it.pull(Pulled::With(&one));
    assert!(!it.allows(&[]) && !it.allows(std::slice::from_ref(&two)) && it.allows(&[two, one]));
    // Another secret with the same content, and the same secret with another.
    assert!(it.allows(&[credential("copy", "1")]) && it.allows(&[credential("one", "new")]));
    assert!(it.allows(&[credential("copy", "changed")]), "it was noted");
    assert!(!it.records.allows(ID, "h:5/other/web:v2", &[credential("one", "1")]), "another name of it");
    it.pull(Pulled::Freely);
    assert!(it.allows(&[]));
    it.records.forget(ID);
    assert!(it.allows(&[]));
}

#[test]
fn an_unreadable_record_gives_no_pod_access() {
    let it = fixture();
    let owner = credential("one", "1");
    it.pull(Pulled::With(&owner));
    let file = it.file("pulled", ID);
    let whole = std::fs::read(&file).unwrap();
    for text in [
        "",
        "{",
        "{}",
        &String::from_utf8_lossy(&whole[..whole.len() / 2]),
        r#"{"kind":"Pod","apiVersion":"v1"}"#,
    ] {
        std::fs::write(&file, text).unwrap();
        assert!(!it.allows(std::slice::from_ref(&owner)), "{text}");
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(!it.allows(&[]), "not even a file");
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(it.file("pulling", IMAGE), "{").unwrap();
    assert!(!it.allows(&[]));
}

#[test]
fn files_are_upstreams_and_for_root_alone() {
    let it = fixture();
    let pulling = it.records.begin(IMAGE).unwrap();
    let (intent, record) = (it.file("pulling", IMAGE), it.file("pulled", ID));
    assert_eq!(
        std::fs::read_to_string(&intent).unwrap(),
        "{\"kind\":\"ImagePullIntent\",\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\",\"image\":\"h:5/p/web:v2\"}\n"
    );
    pulling.finished(ID, Pulled::With(&credential("s", "<&>"))).unwrap();
    assert!(!intent.exists());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&record), mode(record.parent().unwrap())), (0o600, 0o700));
    let mut tree: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    let time = tree["lastUpdatedTime"].take();
    assert_eq!(time.as_str().unwrap().len(), "2024-10-21T12:26:40Z".len());
    // The hash is that of {"username":"u","password":"\u003c\u0026\u003e"}.
    assert_eq!(
        tree,
        serde_json::json!({
            "kind": "ImagePulledRecord", "apiVersion": "kubelet.config.k8s.io/v1beta1", "lastUpdatedTime": null,
            "imageRef": ID, "credentialMapping": {"h:5/p/web": {"kubernetesSecrets": [{
                "namespace": "n", "name": "s", "uid": "uid-s",
                "credentialHash": "3cddd69fe285d2f3f7321f6d731bb4900879f2ceab317b329d5dc744e0bab741",
            }]}},
        })
    );
    let others = r#"{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v1alpha1","lastUpdatedTime":"2024-10-21T12:26:40Z","imageRef":"sha256:a","credentialMapping":{"h:5/p/web":{"kubernetesServiceAccounts":[{"uid":"u","namespace":"n","name":"robot"}]}}}"#;
    std::fs::write(&record, others).unwrap();
    assert!(!it.allows(&[]));
    it.pull(Pulled::With(&credential("s", "1")));
    assert!(std::fs::read_to_string(&record).unwrap().contains("robot"), "what others noted stays");
}

#[test]
fn an_interrupted_pull_is_remembered() {
    let it = fixture();
    drop(it.records.begin(IMAGE).unwrap());
    assert!(!it.allows(&[]), "it may have come after all");
    let next = Records::new(it.folder.path(), Policy::default());
    assert!(!next.allows(ID, IMAGE, &[]));
    next.recover(&[Image { id: ID.into(), repo_tags: vec![IMAGE.into()], ..Default::default() }]);
    assert!(!it.file("pulling", IMAGE).exists() && it.file("pulled", ID).exists());
    assert!(!next.allows(ID, IMAGE, &[]));

    let (first, second) = (it.records.begin("b").unwrap(), it.records.begin("b").unwrap());
    first.failed().unwrap();
    assert!(it.file("pulling", "b").exists(), "the other pull goes on");
    second.failed().unwrap();
    assert!(!it.file("pulling", "b").exists());
}

#[test]
fn records_go_with_their_images() {
    let it = fixture();
    it.pull(Pulled::Freely);
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    it.records.prune(&[ID].into(), later);
    assert!(it.file("pulled", ID).exists());
    it.records.prune(&[].into(), jiff::Timestamp::now() - jiff::SignedDuration::from_secs(2));
    assert!(it.file("pulled", ID).exists(), "noted after the listing");
    it.records.prune(&[].into(), later);
    assert!(!it.file("pulled", ID).exists());
}
