package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc/metadata"
)

// ingest appends a file as Flight SQL, and prints the number of rows. Flight SQL has no sign of the end of a
// stream, so a failure in the middle must cancel it: untilAnswered does.
func ingest(ctx context.Context, words []string, o options) error {
	key, err := json.Marshal(o.key)
	if err != nil {
		return err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "x-idempotency-key", o.idempotencyKey, "x-timestore-key", string(key))
	return withSQL(ctx, o, func(ctx context.Context, client *flightsql.Client) error {
		return untilAnswered(ctx, o.deadline, func(ctx context.Context) error {
			rows, err := ingestOnce(ctx, client, words[0], words[1])
			if err == nil {
				fmt.Println(rows)
			}
			return err
		})
	})
}

func ingestOnce(ctx context.Context, client *flightsql.Client, dataset, path string) (int64, error) {
	batches, err := openBatches(path)
	if err != nil {
		return 0, err
	}
	defer batches.close()
	return client.ExecuteIngest(ctx, batches.Reader, &flightsql.ExecuteIngestOpts{
		Table: dataset,
		TableDefinitionOptions: &flightsql.TableDefinitionOptions{
			IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionCreate,
			IfExists:   flightsql.TableDefinitionOptionsTableExistsOptionAppend,
		},
	})
}

// query runs a statement and prints its rows, one JSON object a line.
func query(ctx context.Context, words []string, o options) error {
	return withSQL(ctx, o, func(ctx context.Context, client *flightsql.Client) error {
		info, err := client.Execute(ctx, words[0])
		if err != nil {
			return err
		}
		for _, endpoint := range info.GetEndpoint() {
			batches, err := client.DoGet(ctx, endpoint.GetTicket())
			if err != nil {
				return err
			}
			defer batches.Release()
			if err := printRows(batches.Reader); err != nil {
				return err
			}
		}
		return nil
	})
}

func printRows(batches array.RecordReader) error {
	rows := json.NewEncoder(os.Stdout)
	for batches.Next() {
		batch := batches.RecordBatch()
		for row := range int(batch.NumRows()) {
			values := map[string]any{}
			for column, field := range batch.Schema().Fields() {
				values[field.Name] = batch.Column(column).GetOneForMarshal(row)
			}
			if err := rows.Encode(values); err != nil {
				return err
			}
		}
	}
	return batches.Err()
}

func withSQL(ctx context.Context, o options, use func(context.Context, *flightsql.Client) error) error {
	address, dial, err := dialOptions(o)
	if err != nil {
		return err
	}
	ctx, err = withToken(ctx, o)
	if err != nil {
		return err
	}
	client, err := flightsql.NewClient(address, nil, nil, dial...)
	if err != nil {
		return err
	}
	defer client.Close()
	return use(ctx, client)
}
