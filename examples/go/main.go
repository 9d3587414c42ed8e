// Append an Arrow stream file exactly once, and read a dataset back, with nothing but Arrow's own Go libraries.
//
//	go run . put meters june.arrows --idempotency-key meters/june --key site=12
//	go run . ingest meters june.arrows --idempotency-key meters/june         (as Flight SQL)
//	go run . adbc-ingest meters june.arrows --idempotency-key meters/june    (with ADBC)
//	go run . get meters all.arrows
//	go run . sql 'SELECT count(*) FROM meters'
//	go run . adbc-sql 'SELECT count(*) FROM meters'
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

type options struct {
	url, tokenFile, tlsRoot string
	idempotencyKey          string
	key                     keyParts
	deadline                time.Duration
}

// keyParts is the semantic key: --key NAME=VALUE, as often as it has parts.
type keyParts map[string]string

func (k keyParts) String() string { return fmt.Sprint(map[string]string(k)) }

func (k keyParts) Set(part string) error {
	name, value, found := strings.Cut(part, "=")
	if !found {
		return errors.New("expected NAME=VALUE")
	}
	k[name] = value
	return nil
}

var commands = map[string]struct {
	words []string
	run   func(context.Context, []string, options) error
}{
	"put":         {[]string{"DATASET", "FILE"}, put},
	"ingest":      {[]string{"DATASET", "FILE"}, ingest},
	"adbc-ingest": {[]string{"DATASET", "FILE"}, adbcIngest},
	"get":         {[]string{"DATASET", "FILE"}, get},
	"sql":         {[]string{"QUERY"}, query},
	"adbc-sql":    {[]string{"QUERY"}, adbcQuery},
}

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("which command? put, ingest, adbc-ingest, get, sql or adbc-sql"))
	}
	command, known := commands[os.Args[1]]
	words := os.Args[2:]
	if !known || len(words) < len(command.words) {
		fail(fmt.Errorf("usage: %s %s [options]", os.Args[1], strings.Join(command.words, " ")))
	}
	options := parse(words[len(command.words):])
	if err := command.run(context.Background(), words[:len(command.words)], options); err != nil {
		fail(err)
	}
}

func parse(arguments []string) options {
	o := options{key: keyParts{}}
	flags := flag.NewFlagSet("options", flag.ExitOnError)
	flags.StringVar(&o.url, "url", "grpc://127.0.0.1:8815", "the server: grpc:// or grpc+tls://")
	flags.StringVar(&o.tokenFile, "token-file", "", "a file that holds the bearer token")
	flags.StringVar(&o.tlsRoot, "tls-root", "", "a PEM file of the authorities to trust, instead of the system's")
	flags.StringVar(&o.idempotencyKey, "idempotency-key", "", "names exactly these rows")
	flags.Var(o.key, "key", "a part of the semantic key: NAME=VALUE")
	seconds := flags.Float64("deadline", 60, "for how many seconds to repeat what may be repeated")
	_ = flags.Parse(arguments) // exits by itself
	o.deadline = time.Duration(*seconds * float64(time.Second))
	return o
}

func fail(err error) {
	kind, _ := details(err)
	if kind == "" {
		kind = "error"
	}
	fmt.Fprintf(os.Stderr, "failed (%s): %v\n", kind, err)
	os.Exit(1)
}
