package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/genproto/googleapis/rpc/status"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// adbcIngest appends a file with ADBC's driver, and prints the number of rows.
func adbcIngest(ctx context.Context, words []string, o options) error {
	chosen, err := ingestOptions(words[0], o)
	if err != nil {
		return err
	}
	return untilAnswered(ctx, o.deadline, func(ctx context.Context) error {
		return withADBC(ctx, o, func(connection adbc.Connection) error {
			rows, err := adbcIngestOnce(ctx, connection, chosen, words[1])
			if err == nil {
				fmt.Println(rows)
			}
			return err
		})
	})
}

// ingestOptions name the dataset; headers carry what ADBC has no options for.
func ingestOptions(dataset string, o options) (map[string]string, error) {
	key, err := json.Marshal(o.key)
	return map[string]string{
		adbc.OptionKeyIngestTargetTable:                        dataset,
		adbc.OptionKeyIngestMode:                               adbc.OptionValueIngestModeCreateAppend,
		driver.OptionRPCCallHeaderPrefix + "x-idempotency-key": o.idempotencyKey,
		driver.OptionRPCCallHeaderPrefix + "x-timestore-key":   string(key),
	}, err
}

// adbcIngestOnce sends one stream. Options come before BindStream, which asks whether there is a table to ingest into;
// adbc.IngestStream binds first, and this driver refuses that.
func adbcIngestOnce(
	ctx context.Context, connection adbc.Connection, chosen map[string]string, path string,
) (int64, error) {
	batches, err := openBatches(path)
	if err != nil {
		return 0, err
	}
	defer batches.close()

	statement, err := connection.NewStatement()
	if err != nil {
		return 0, err
	}
	defer statement.Close()
	for name, value := range chosen {
		if err := statement.SetOption(name, value); err != nil {
			return 0, err
		}
	}
	if err := statement.BindStream(ctx, batches.Reader); err != nil {
		return 0, err
	}
	return statement.ExecuteUpdate(ctx)
}

// adbcQuery runs a statement with ADBC's driver and prints its rows, one JSON object a line.
func adbcQuery(ctx context.Context, words []string, o options) error {
	return withADBC(ctx, o, func(connection adbc.Connection) error {
		statement, err := connection.NewStatement()
		if err != nil {
			return err
		}
		defer statement.Close()
		if err := statement.SetSqlQuery(words[0]); err != nil {
			return err
		}
		batches, _, err := statement.ExecuteQuery(ctx)
		if err != nil {
			return err
		}
		defer batches.Release()
		return printRows(batches)
	})
}

// withADBC opens a connection, and makes the driver's errors those of gRPC again.
func withADBC(ctx context.Context, o options, use func(adbc.Connection) error) error {
	chosen, err := adbcOptions(o)
	if err != nil {
		return err
	}
	database, err := driver.NewDriver(memory.DefaultAllocator).NewDatabase(chosen)
	if err != nil {
		return err
	}
	defer database.Close()
	connection, err := database.Open(ctx)
	if err != nil {
		return withDetails(err)
	}
	defer connection.Close()
	return withDetails(use(connection))
}

// adbcOptions say how the driver connects: with large messages, the authorities to trust, and a token.
func adbcOptions(o options) (map[string]string, error) {
	chosen := map[string]string{
		adbc.OptionKeyURI:           o.url,
		driver.OptionWithMaxMsgSize: strconv.Itoa(math.MaxInt32),
	}
	if o.tlsRoot != "" {
		pem, err := os.ReadFile(o.tlsRoot)
		if err != nil {
			return nil, err
		}
		chosen[driver.OptionSSLRootCerts] = string(pem)
	}
	if o.tokenFile != "" {
		token, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return nil, err
		}
		chosen[driver.OptionAuthorizationHeader] = "Bearer " + strings.TrimSpace(string(token))
	}
	return chosen, nil
}

// withDetails makes an error of ADBC's driver one of gRPC again. The driver keeps the code, and each of the details;
// its own codes tell less (RESOURCE_EXHAUSTED, which is final, is INTERNAL there).
func withDetails(err error) error {
	var failure adbc.Error
	if !errors.As(err, &failure) || failure.VendorCode == 0 {
		return err
	}
	answer := &status.Status{Code: failure.VendorCode, Message: failure.Msg}
	for _, detail := range failure.Details {
		serialized, err := detail.Serialize()
		if err != nil || detail.Key() != "grpc-status-details-bin" {
			continue
		}
		unpacked := &anypb.Any{}
		if proto.Unmarshal(serialized, unpacked) == nil {
			answer.Details = append(answer.Details, unpacked)
		}
	}
	return grpcstatus.ErrorProto(answer)
}
