package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// dialOptions gives TLS for grpc+tls://, and lets large batches in.
func dialOptions(o options) (string, []grpc.DialOption, error) {
	scheme, address, found := strings.Cut(o.url, "://")
	if !found {
		return "", nil, fmt.Errorf("%s is no URL: expected grpc://HOST:PORT or grpc+tls://HOST:PORT", o.url)
	}
	transport := insecure.NewCredentials()
	if scheme == "grpc+tls" {
		roots, err := trustedRoots(o.tlsRoot)
		if err != nil {
			return "", nil, err
		}
		transport = credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	}
	large := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32))
	return address, []grpc.DialOption{grpc.WithTransportCredentials(transport), large}, nil
}

func trustedRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil // the system's
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return roots, nil
}

// withToken adds the bearer token to every call made with this context.
func withToken(ctx context.Context, o options) (context.Context, error) {
	if o.tokenFile == "" {
		return ctx, nil
	}
	token, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(token))), nil
}
