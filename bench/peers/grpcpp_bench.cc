// SPDX-License-Identifier: Apache-2.0
// gRPC's own C++ as a benchmark's party: the commands of bench/tools/bench_rpc.c but `handshakes`. The server is gRPC's synchronous one,
// one call in flight is a synchronous stub (its fastest), more are a completion queue.
//
//   grpcpp_bench CERTS
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "node.grpc.pb.h"

namespace {

using Clock = std::chrono::steady_clock;
using Stub = node::NodeServices::Stub;
const int kMessageMax = 1 << 30;

double since(Clock::time_point from)
{
    return std::chrono::duration<double>(Clock::now() - from).count();
}

std::string read_file(const std::string &path)
{
    std::ifstream in(path, std::ios::binary);
    std::stringstream ss;
    ss << in.rdbuf();
    return ss.str();
}

class Service final : public node::NodeServices::Service {
    grpc::Status handshake(grpc::ServerContext *, const node::HandShakeRequest *req, node::ResponseMessage *rsp) override
    {
        rsp->set_response(req->addr());
        return grpc::Status::OK;
    }
    grpc::Status send(grpc::ServerContext *, const node::RootMessage *req, node::ResponseMessage *rsp) override
    {
        rsp->set_response(std::to_string(req->weights().weights().size()));
        return grpc::Status::OK;
    }
};

class Party {
public:
    explicit Party(std::string certs) : certs_(std::move(certs)) {}

    void serve()
    {
        grpc::SslServerCredentialsOptions ssl(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
        ssl.pem_root_certs = read_file(certs_ + "/ca.crt");
        ssl.pem_key_cert_pairs.push_back({read_file(certs_ + "/server.key"), read_file(certs_ + "/server.crt")});
        grpc::ServerBuilder builder;
        int port = 0;
        builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(ssl), &port);
        builder.RegisterService(&service_);
        builder.SetMaxReceiveMessageSize(kMessageMax);
        server_ = builder.BuildAndStart();
        if (!server_)
            std::exit(1);
        std::cout << "LISTEN 127.0.0.1:" << port << std::endl;
    }

    void carry_out(const std::string &line)
    {
        std::istringstream in(line);
        std::string what;
        in >> what;
        took_us_.clear();
        if (what == "calls")
            calls(in);
        else if (what == "send")
            send(in);
        else if (what == "beats")
            beats(in);
        else
            std::exit(2);
    }

private:
    Stub &stub(const std::string &target, int i)
    {
        auto &known = stubs_[target + "#" + std::to_string(i)];
        if (!known) {
            grpc::SslCredentialsOptions ssl;
            ssl.pem_root_certs = read_file(certs_ + "/ca.crt");
            ssl.pem_private_key = read_file(certs_ + "/client.key");
            ssl.pem_cert_chain = read_file(certs_ + "/client.crt");
            grpc::ChannelArguments args;
            args.SetMaxReceiveMessageSize(kMessageMax);
            args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); // a connection of its own
            known = node::NodeServices::NewStub(grpc::CreateCustomChannel(target, grpc::SslCredentials(ssl), args));
        }
        return *known;
    }

    static void must(const grpc::Status &s)
    {
        if (s.ok())
            return;
        std::cerr << s.error_message() << std::endl;
        std::exit(1);
    }

    static void one_call(Stub &stub)
    {
        grpc::ClientContext ctx;
        node::HandShakeRequest req;
        node::ResponseMessage rsp;
        req.set_addr("127.0.0.1:12345");
        ctx.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
        must(stub.handshake(&ctx, req, &rsp));
    }

    void report(Clock::time_point from, double bytes)
    {
        double s = since(from);
        std::sort(took_us_.begin(), took_us_.end());
        auto at = [&](double share) {
            size_t n = took_us_.size();
            return n == 0 ? 0.0 : took_us_[std::min(n - 1, static_cast<size_t>(share * static_cast<double>(n)))];
        };
        std::printf("{\"seconds\":%.6f,\"n\":%zu,\"per_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"mb_per_s\":%.1f}\n", s,
                    took_us_.size(), static_cast<double>(took_us_.size()) / s, at(0.5), at(0.99), at(1.0), bytes / s / 1e6);
        std::fflush(stdout);
    }

    struct Pending {
        Stub *stub;
        std::unique_ptr<grpc::ClientContext> ctx;
        node::ResponseMessage rsp;
        grpc::Status status;
        std::unique_ptr<grpc::ClientAsyncResponseReader<node::ResponseMessage>> reader;
        Clock::time_point from;

        void start(grpc::CompletionQueue *cq)
        {
            node::HandShakeRequest req;
            req.set_addr("127.0.0.1:12345");
            ctx = std::make_unique<grpc::ClientContext>();
            ctx->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
            from = Clock::now();
            reader = stub->Asynchandshake(ctx.get(), req, cq);
            reader->Finish(&rsp, &status, this);
        }
    };

    void calls(std::istringstream &in)
    {
        std::string target;
        int n_links, n_each, ms;
        in >> target >> n_links >> n_each >> ms;
        auto from = Clock::now();
        if (n_links * n_each == 1) {
            Stub &s = stub(target, 0);
            while (since(from) * 1000 < ms) {
                auto begun = Clock::now();
                one_call(s);
                took_us_.push_back(since(begun) * 1e6);
            }
            report(from, 0);
            return;
        }
        grpc::CompletionQueue cq;
        std::vector<Pending> pending(static_cast<size_t>(n_links * n_each));
        for (size_t i = 0; i < pending.size(); i++) {
            pending[i].stub = &stub(target, static_cast<int>(i) % n_links);
            pending[i].start(&cq);
        }
        size_t open = pending.size();
        void *tag;
        bool ok;
        while (open > 0 && cq.Next(&tag, &ok)) {
            auto *p = static_cast<Pending *>(tag);
            must(p->status);
            took_us_.push_back(since(p->from) * 1e6);
            if (since(from) * 1000 < ms)
                p->start(&cq);
            else
                open--;
        }
        report(from, 0);
    }

    void set_payload(size_t bytes)
    {
        if (message_.weights().weights().size() != bytes)
            message_.mutable_weights()->set_weights(std::string(bytes, 'w'));
        message_.set_source("127.0.0.1:1");
        message_.set_cmd("add_model");
    }

    void one_message(Stub &stub)
    {
        grpc::ClientContext ctx;
        node::ResponseMessage rsp;
        must(stub.send(&ctx, message_, &rsp));
    }

    void send(std::istringstream &in)
    {
        size_t bytes;
        int count;
        std::vector<std::string> targets;
        in >> bytes >> count;
        for (std::string t; in >> t;)
            targets.push_back(t);
        set_payload(bytes);
        std::vector<Stub *> stubs;
        for (auto &t : targets)
            stubs.push_back(&stub(t, 0));
        auto from = Clock::now();
        std::vector<std::thread> threads;
        for (Stub *s : stubs)
            threads.emplace_back([this, s, count] {
                for (int i = 0; i < count; i++)
                    one_message(*s);
            });
        for (auto &t : threads)
            t.join();
        report(from, static_cast<double>(bytes) * count * static_cast<double>(targets.size()));
    }

    void beats(std::istringstream &in)
    {
        std::string target;
        size_t bytes;
        int count, ms;
        in >> target >> bytes >> count >> ms;
        set_payload(bytes);
        Stub &s = stub(target, 0);
        auto from = Clock::now();
        std::atomic<bool> done{false};
        std::thread big([&] {
            for (int i = 0; i < count; i++)
                one_message(s);
            done = true;
        });
        std::vector<std::thread> small;
        std::mutex lock;
        for (auto next = Clock::now(); !done; next += std::chrono::milliseconds(ms)) {
            std::this_thread::sleep_until(next);
            small.emplace_back([&] {
                auto begun = Clock::now();
                one_call(s);
                double us = since(begun) * 1e6;
                std::lock_guard<std::mutex> hold(lock);
                took_us_.push_back(us);
            });
        }
        big.join();
        for (auto &t : small)
            t.join();
        report(from, static_cast<double>(bytes) * count);
    }

    std::string certs_;
    Service service_;
    std::unique_ptr<grpc::Server> server_;
    std::map<std::string, std::unique_ptr<Stub>> stubs_;
    node::RootMessage message_;
    std::vector<double> took_us_;
};

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    Party party(argv[1]);
    party.serve();
    for (std::string line; std::getline(std::cin, line);)
        party.carry_out(line);
    std::_Exit(0);
}
