//! A first proxy client: types a line at a VM's console, and prints what the guest says.
//! usage: `first_client HOST:PORT PKI_DIR VM LINE`
use std::{error::Error, io::Write as _};

use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::stream_console_request::Message as Ask;
use vmconsole_proto::v1::stream_console_response::Message::{Opened, Output};
use vmconsole_proto::v1::{self, StreamConsoleRequest, console_ref::Vm};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [agent, pki, vm, line] = <[String; 4]>::try_from(arguments).map_err(|_| "see usage")?;
    let pem = |name| std::fs::read(format!("{pki}/{name}"));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem("ca.crt")?))
        .identity(Identity::from_pem(pem("proxy.crt")?, pem("proxy.key")?));
    let agent = Endpoint::from_shared(format!("https://{agent}"))?.tls_config(tls)?;
    let mut service = ConsoleServiceClient::new(agent.connect().await?);

    let (asks, queue) = tokio::sync::mpsc::channel(8);
    let queue = ReceiverStream::new(queue).map(|ask| StreamConsoleRequest { message: Some(ask) });
    let mut open = v1::Open::default();
    open.set_mode(v1::Mode::WriteIfFree);
    open.console.get_or_insert_default().vm = Some(Vm::VmName(vm));
    asks.send(Ask::Open(open)).await?;
    let mut answers = service.stream_console(queue).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if let Some(Opened(opened)) = answer.message {
            let (write_epoch, data) = (opened.write_epoch, format!("{line}\n").into());
            let offset = opened.next_input_offset();
            #[rustfmt::skip]
            asks.send(Ask::Input(v1::Input { offset, write_epoch, data })).await?;
        } else if let Some(Output(output)) = answer.message {
            std::io::stdout().write_all(&output.data)?;
        }
    }
    Ok(())
}
