// SPDX-License-Identifier: Apache-2.0
// The official C++ gRPC as a foreign peer: a server and a client of node.NodeServices over mutual TLS.
//
//   grpcpp_peer serve CERTS ADDRESS [limit]    prints LISTEN port, serves until standard input ends
//   grpcpp_peer call CERTS TARGET              one line for each case, "OK <case>" or "FAIL <case>: why"; exit code 0 if all are OK
//   grpcpp_peer bench CERTS TARGET [bytes]     as rpc_echo bench
#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "node.grpc.pb.h"

namespace {

std::string read_file(const std::string &path)
{
    std::ifstream in(path, std::ios::binary);
    std::stringstream ss;
    ss << in.rdbuf();
    return ss.str();
}

class Service final : public node::NodeServices::Service {
    grpc::Status handshake(grpc::ServerContext *ctx, const node::HandShakeRequest *req, node::ResponseMessage *rsp) override
    {
        if (req->addr() == "fail")
            return {grpc::StatusCode::ABORTED, "as you wish: 100 % \xc3\xbc"};
        if (req->addr() == "slow")
            for (int i = 0; i < 500 && !ctx->IsCancelled(); i++)
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
        if (req->addr() == "big")
            rsp->set_response(std::string(10 << 20, 'r'));
        else
            rsp->set_response(req->addr());
        return grpc::Status::OK;
    }
    grpc::Status send(grpc::ServerContext *, const node::RootMessage *req, node::ResponseMessage *rsp) override
    {
        rsp->set_response(std::to_string(req->ByteSizeLong()) + " bytes");
        return grpc::Status::OK;
    }
    grpc::Status disconnect(grpc::ServerContext *, const node::HandShakeRequest *, google::protobuf::Empty *) override
    {
        return grpc::Status::OK;
    }
};

int serve(const std::string &certs, const std::string &address, int limit)
{
    grpc::SslServerCredentialsOptions ssl(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    ssl.pem_root_certs = read_file(certs + "/ca.crt");
    ssl.pem_key_cert_pairs.push_back({read_file(certs + "/server.key"), read_file(certs + "/server.crt")});
    Service service;
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, grpc::SslServerCredentials(ssl), &port);
    builder.RegisterService(&service);
    builder.SetMaxReceiveMessageSize(limit);
    auto server = builder.BuildAndStart();
    if (!server)
        return 1;
    std::cout << "LISTEN " << address.substr(0, address.rfind(':')) << ":" << port << std::endl;
    while (std::cin.get() != EOF) {
    }
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    return 0;
}

std::unique_ptr<node::NodeServices::Stub> dial(const std::string &certs, const std::string &target)
{
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = read_file(certs + "/ca.crt");
    ssl.pem_private_key = read_file(certs + "/client.key");
    ssl.pem_cert_chain = read_file(certs + "/client.crt");
    grpc::ChannelArguments args;
    args.SetMaxReceiveMessageSize(64 << 20);
    return node::NodeServices::NewStub(grpc::CreateCustomChannel(target, grpc::SslCredentials(ssl), args));
}

bool check(const char *name, const grpc::Status &s, grpc::StatusCode code, bool more = true)
{
    bool ok = s.error_code() == code && more;
    std::cout << (ok ? "OK " : "FAIL ") << name << ": " << s.error_code() << " " << s.error_message() << std::endl;
    return ok;
}

bool handshake(node::NodeServices::Stub &stub, const std::string &addr, grpc::StatusCode code, int ms, const char *message = nullptr)
{
    grpc::ClientContext ctx;
    ctx.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(ms));
    node::HandShakeRequest req;
    node::ResponseMessage rsp;
    req.set_addr(addr);
    grpc::Status s = stub.handshake(&ctx, req, &rsp);
    bool same = code != grpc::StatusCode::OK || rsp.response() == addr;
    return check(("handshake " + addr).c_str(), s, code, same && (!message || s.error_message() == message));
}

bool send(node::NodeServices::Stub &stub, size_t n, grpc::StatusCode code)
{
    grpc::ClientContext ctx;
    node::RootMessage req;
    node::ResponseMessage rsp;
    req.set_source("127.0.0.1:1");
    req.set_cmd("add_model");
    req.mutable_weights()->set_weights(std::string(n, 'w'));
    grpc::Status s = stub.send(&ctx, req, &rsp);
    bool same = code != grpc::StatusCode::OK || rsp.response() == std::to_string(req.ByteSizeLong()) + " bytes";
    return check(("send " + std::to_string(n)).c_str(), s, code, same);
}

int call(const std::string &certs, const std::string &target)
{
    auto stub = dial(certs, target);
    bool ok = handshake(*stub, "127.0.0.1:4711", grpc::StatusCode::OK, 5000);
    ok &= handshake(*stub, "fail", grpc::StatusCode::ABORTED, 5000, "as you wish: 100 % \xc3\xbc");
    ok &= handshake(*stub, "slow", grpc::StatusCode::DEADLINE_EXCEEDED, 200);
    ok &= send(*stub, 0, grpc::StatusCode::OK);
    ok &= send(*stub, 3 << 20, grpc::StatusCode::OK);
    ok &= send(*stub, 5 << 20, grpc::StatusCode::RESOURCE_EXHAUSTED);
    ok &= handshake(*stub, "still there", grpc::StatusCode::OK, 5000);
    grpc::ClientContext ctx;
    node::HandShakeRequest req;
    google::protobuf::Empty empty;
    ok &= check("disconnect", stub->disconnect(&ctx, req, &empty), grpc::StatusCode::OK);
    return ok ? 0 : 1;
}

double seconds_since(std::chrono::steady_clock::time_point from)
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
}

int bench(const std::string &certs, const std::string &target, size_t bytes)
{
    auto stub = dial(certs, target);
    auto from = std::chrono::steady_clock::now();
    unsigned n = 0;
    for (double took = 0; took < 2; took = n > 1000 ? seconds_since(from) : 0) {
        grpc::ClientContext ctx;
        node::HandShakeRequest req;
        node::ResponseMessage rsp;
        req.set_addr("127.0.0.1:12345");
        ctx.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
        if (!stub->handshake(&ctx, req, &rsp).ok())
            return 1;
        if (++n == 1000)
            from = std::chrono::steady_clock::now();
    }
    double calls = (n - 1000) / seconds_since(from);
    node::RootMessage req;
    req.mutable_weights()->set_weights(std::string(bytes, 'w'));
    for (int i = 0; i <= 5; i++) {
        grpc::ClientContext ctx;
        node::ResponseMessage rsp;
        if (!stub->send(&ctx, req, &rsp).ok())
            return 1;
        if (i == 0)
            from = std::chrono::steady_clock::now();
    }
    std::cout << "{\"calls_per_s\":" << static_cast<int>(calls) << ",\"message_bytes\":" << bytes
              << ",\"mb_per_s\":" << static_cast<int>(5.0 * static_cast<double>(bytes) / seconds_since(from) / 1e6) << "}" << std::endl;
    return 0;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    const std::string mode = argv[1];
    if (mode == "serve")
        return serve(argv[2], argv[3], argc > 4 ? std::stoi(argv[4]) : 64 << 20);
    if (mode == "call")
        return call(argv[2], argv[3]);
    return bench(argv[2], argv[3], argc > 4 ? std::stoul(argv[4]) : 100u << 20);
}
