//! What a person is told when a trial is ready.

use std::path::Path;

use super::{
    super::{Failure, quote},
    handout::{ENVIRONMENT_FILE, Handout, OKMS_FILE},
};

/// The text.
pub(super) fn text(handout: &Handout, folder: &Path) -> Result<String, Failure> {
    let files = &handout.access.files;
    let quoted = |path: &Path| quote::path(path).map(quote::shell);
    let api_url = &handout.api_url;
    let okms_id = handout.access.okms_id;
    Ok(format!(
        "\nokmsd serves on {api_url}. Everything it made is in\n  \
           {folder}\n\n\
         Create a secret:\n  \
           curl --cacert {ca} \\\n    \
             --cert {cert} \\\n    \
             --key {key} \\\n    \
             -H 'Content-Type: application/json' \\\n    \
             -d '{SECRET}' \\\n    \
             '{api_url}/api/{okms_id}/v2/secret'\n\n\
         The same places as variables ($OKMS_ENDPOINT, $OKMS_ID, $OKMS_CA, $OKMS_CERT, $OKMS_KEY):\n  \
           source {environment}\n\n\
         The okms CLI:\n  \
           okms --config {okms} secrets list\n\n\
         Swagger UI:\n  \
           to read, without a certificate   {docs}\n  \
           to send requests, with one       {swagger}\n\n\
         Health and metrics:\n  \
           {operations}\n\n\
         The certificate for a browser, and the file that holds its password:\n  \
           {p12}\n  \
           {p12_password}\n  \
           Firefox: Settings, Privacy & Security, View Certificates. Import the .p12 file under\n    \
             Your Certificates, and {ca_name} under Authorities, for websites.\n  \
           Chrome: chrome://settings/certificates. Import the .p12 file under Your certificates,\n    \
             and {ca_name} under Authorities (Linux) or as trusted by you.\n\n\
         Ctrl-C stops the server; the next `okmsd dev` goes on with the same data.\n",
        folder = quote::path(folder)?,
        ca = quoted(&handout.ca)?,
        cert = quoted(&files.certificate)?,
        key = quoted(&files.private_key)?,
        environment = quoted(&folder.join(ENVIRONMENT_FILE))?,
        okms = quoted(&folder.join(OKMS_FILE))?,
        docs = handout.docs_url().unwrap_or_else(|| "(not served)".to_owned()),
        swagger = handout.swagger_url(),
        operations = handout.operations_address.map_or_else(
            || "(not served)".to_owned(),
            |address| format!("http://{address}/readyz  http://{address}/metrics"),
        ),
        p12 = quote::path(&files.pkcs12)?,
        p12_password = quote::path(&files.pkcs12_password)?,
        ca_name = handout.ca.file_name().unwrap_or_default().to_string_lossy(),
    ))
}

/// The body of the example: the path and the names of the service's own guide.
const SECRET: &str = r#"{"path":"prod/database/MySQL","version":{"data":{"login":"admin","password":"my_secret_password"}}}"#;
