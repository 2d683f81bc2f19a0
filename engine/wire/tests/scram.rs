//! SCRAM-SHA-256: the example of the RFC, and both sides of ours against each other.

use maitred_wire::auth::scram::{self, salted_password, Reject, Verifier};
use maitred_wire::auth::scram_client::{Binding, ClientExchange};
use maitred_wire::auth::scram_server::ServerExchange;

// Spec: RFC 7677 section 3, user "user", password "pencil".
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SALT: [u8; 16] =
    [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn verifier(password: &str) -> Verifier {
    Verifier::from_salted(&salted_password(password, &SALT, 4096), SALT.to_vec(), 4096)
}

#[test]
fn client_speaks_the_example_of_the_rfc() {
    let mut client = ClientExchange::open("user", Binding::Unable, CLIENT_NONCE.into());
    assert_eq!(client.first(), CLIENT_FIRST);
    assert_eq!(client.challenge(SERVER_FIRST.as_bytes()), Ok((SALT.to_vec(), 4096)));
    assert_eq!(client.answer(&salted_password("pencil", &SALT, 4096)), CLIENT_FINAL);
    assert_eq!(client.confirm(SERVER_FINAL.as_bytes()), Ok(()));
}

#[test]
fn server_speaks_the_example_of_the_rfc() {
    let (server, first) =
        ServerExchange::open(CLIENT_FIRST.as_bytes(), false, None, SERVER_NONCE, &SALT, 4096).unwrap();
    assert_eq!(first, SERVER_FIRST);
    let proof = server.proof(CLIENT_FINAL.as_bytes()).unwrap();
    assert_eq!(proof.check(&verifier("pencil")).as_deref(), Some(SERVER_FINAL));
    assert_eq!(proof.check(&verifier("pencils")), None);
}

/// Run one exchange; what the client and the server think of each other.
fn exchange(binding: Binding<'_>, plus: bool, ours: Option<&[u8]>, password: &str) -> Result<bool, Reject> {
    let mut client = ClientExchange::open("", binding, scram::nonce());
    let (server, first) =
        ServerExchange::open(client.first().as_bytes(), plus, ours, &scram::nonce(), &SALT, 4096)?;
    let (salt, iterations) = client.challenge(first.as_bytes())?;
    let last = client.answer(&salted_password(password, &salt, iterations));
    match server.proof(last.as_bytes())?.check(&verifier("pencil")) {
        Some(last) => client.confirm(last.as_bytes()).map(|()| true),
        None => Ok(false),
    }
}

#[test]
fn both_sides_agree_with_and_without_binding() {
    assert_eq!(exchange(Binding::Unable, false, None, "pencil"), Ok(true));
    assert_eq!(exchange(Binding::Unable, false, None, "pencil2"), Ok(false));
    assert_eq!(exchange(Binding::NotOffered, false, None, "pencil"), Ok(true));
    assert_eq!(exchange(Binding::Unable, false, Some(b"hash"), "pencil"), Ok(true));
    assert_eq!(exchange(Binding::EndPoint(b"hash"), true, Some(b"hash"), "pencil"), Ok(true));
    assert_eq!(exchange(Binding::EndPoint(b"hash"), true, Some(b"hash"), "pencil2"), Ok(false));
}

#[test]
fn binding_that_does_not_fit_is_refused() {
    let malformed =
        |result: Result<bool, Reject>| assert!(matches!(result, Err(Reject::Malformed(_))), "{result:?}");
    // Another certificate: somebody stands in between.
    malformed(exchange(Binding::EndPoint(b"hash"), true, Some(b"hush"), "pencil"));
    // We offered it, the client was told that we did not.
    malformed(exchange(Binding::NotOffered, false, Some(b"hash"), "pencil"));
    malformed(exchange(Binding::Unable, true, Some(b"hash"), "pencil"));
    malformed(exchange(Binding::EndPoint(b"hash"), false, Some(b"hash"), "pencil"));
}

#[test]
fn client_first_that_is_not_one_is_refused() {
    for text in ["", "n", "n,,", "n,,n=user", "n,,r=abc,n=user", "x,,n=,r=abc", "n,,n=,r=", "n,,n=,r=a\u{1}b"]
    {
        let result = ServerExchange::open(text.as_bytes(), false, None, "x", &SALT, 4096);
        assert!(matches!(result, Err(Reject::Malformed(_))), "{text:?}");
    }
    for text in ["n,a=other,n=,r=abc", "n,,m=x,n=,r=abc"] {
        let result = ServerExchange::open(text.as_bytes(), false, None, "x", &SALT, 4096);
        assert!(matches!(result, Err(Reject::Unsupported(_))), "{text:?}");
    }
    let odd = ServerExchange::open(b"p=tls-unique,,n=,r=abc", true, Some(b"h"), "x", &SALT, 4096);
    assert!(matches!(odd, Err(Reject::Unsupported(_))));
    assert!(ServerExchange::open(b"n,,n=,r=abc,x=more", false, None, "x", &SALT, 4096).is_ok());
}

#[test]
fn client_final_of_another_exchange_is_refused() {
    let (server, _) =
        ServerExchange::open(CLIENT_FIRST.as_bytes(), false, None, "other", &SALT, 4096).unwrap();
    assert!(matches!(server.proof(CLIENT_FINAL.as_bytes()), Err(Reject::Malformed(_))));
    for text in
        ["", "c=biws", "c=biws,r=rOprNGfwEbeRWgbNEkqOother", "c=biws,r=rOprNGfwEbeRWgbNEkqOother,p=AAAA"]
    {
        assert!(matches!(server.proof(text.as_bytes()), Err(Reject::Malformed(_))), "{text}");
    }
}

#[test]
fn server_first_that_is_not_one_is_refused() {
    for text in [
        "",
        "r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096",
        "r=foreign,s=AAAA,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=*,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=0",
        "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=-1",
        "r=rOprNGfwEbeRWgbNEkqOx,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4000000000",
    ] {
        let mut client = ClientExchange::open("user", Binding::Unable, CLIENT_NONCE.into());
        assert!(client.challenge(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn server_that_does_not_know_the_password_is_found_out() {
    let mut client = ClientExchange::open("user", Binding::Unable, CLIENT_NONCE.into());
    client.challenge(SERVER_FIRST.as_bytes()).unwrap();
    client.answer(&salted_password("pencil", &SALT, 4096));
    assert_eq!(client.confirm(b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(Reject::WrongProof));
    assert_eq!(client.confirm(b"e=other-error"), Err(Reject::WrongProof));
    assert!(matches!(client.confirm(b""), Err(Reject::Malformed(_))));
}
