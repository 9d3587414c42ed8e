package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// get reads a whole dataset, as it is now, into an Arrow stream file.
func get(ctx context.Context, words []string, o options) error {
	command, err := json.Marshal(map[string]any{"v": 1, "dataset": words[0]})
	if err != nil {
		return err
	}
	return withClient(ctx, o, func(ctx context.Context, client flight.Client) error {
		descriptor := &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command}
		info, err := client.GetFlightInfo(ctx, descriptor)
		if err != nil {
			return err
		}
		return save(ctx, client, info, words[1])
	})
}

// save writes all endpoints of an answer, one after the other. All of them show one version.
func save(ctx context.Context, client flight.Client, info *flight.FlightInfo, path string) error {
	schema, err := flight.DeserializeSchema(info.GetSchema(), memory.DefaultAllocator)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	writer := ipc.NewWriter(file, ipc.WithSchema(schema))
	for _, endpoint := range info.GetEndpoint() {
		if err := copyEndpoint(ctx, client, endpoint.GetTicket(), writer); err != nil {
			return err
		}
	}
	return writer.Close()
}

func copyEndpoint(ctx context.Context, client flight.Client, ticket *flight.Ticket, writer *ipc.Writer) error {
	stream, err := client.DoGet(ctx, ticket)
	if err != nil {
		return err
	}
	batches, err := flight.NewRecordReader(stream)
	if err != nil {
		return err
	}
	defer batches.Release()
	for batches.Next() {
		if err := writer.Write(batches.RecordBatch()); err != nil {
			return err
		}
	}
	return batches.Err()
}
