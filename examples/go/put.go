package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// put appends a file under its idempotency key and prints the receipt.
func put(ctx context.Context, words []string, o options) error {
	descriptor, err := json.Marshal(map[string]any{
		"v": 1, "dataset": words[0], "key": o.key, "idempotency_key": o.idempotencyKey,
	})
	if err != nil {
		return err
	}
	return withClient(ctx, o, func(ctx context.Context, client flight.Client) error {
		return untilAnswered(ctx, o.deadline, func(ctx context.Context) error {
			receipt, err := putOnce(ctx, client, descriptor, words[1])
			if err == nil {
				fmt.Println(string(receipt))
			}
			return err
		})
	})
}

// fileBatches are the batches of a file that is open.
type fileBatches struct {
	*ipc.Reader
	file *os.File
}

func openBatches(path string) (*fileBatches, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	reader, err := ipc.NewReader(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return &fileBatches{reader, file}, nil
}

func (b *fileBatches) close() {
	b.Release()
	b.file.Close()
}

// putOnce sends one stream and returns the receipt.
func putOnce(ctx context.Context, client flight.Client, descriptor []byte, path string) ([]byte, error) {
	batches, err := openBatches(path)
	if err != nil {
		return nil, err
	}
	defer batches.close()

	stream, err := client.DoPut(ctx)
	if err != nil {
		return nil, err
	}
	err = send(stream, descriptor, batches.Reader)
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the server has ended the stream, and says why below
		return nil, err
	}
	return receiptOf(stream)
}

// send writes all batches and where they end. The first one is sent alone: if the server refuses the stream, no more
// need to travel.
func send(stream flight.FlightService_DoPutClient, descriptor []byte, batches *ipc.Reader) error {
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(batches.Schema()))
	writer.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: descriptor})
	rows, ready := int64(0), false
	for batches.Next() {
		batch := batches.RecordBatch()
		if err := writer.Write(batch); err != nil {
			return err
		}
		if !ready {
			if _, err := stream.Recv(); err != nil { // ready, or committed
				return err
			}
			ready = true
		}
		rows += batch.NumRows()
	}
	if err := batches.Err(); err != nil {
		return err // the caller cancels: half a file must not look like a whole one
	}
	if err := writer.Close(); err != nil { // sends the schema, if there was no batch
		return err
	}
	if err := writer.WriteMetadata(fmt.Appendf(nil, `{"end": true, "rows": %d}`, rows)); err != nil {
		return err
	}
	return stream.CloseSend()
}

// receiptOf reads answers to their end: the status of the call comes after them.
func receiptOf(stream flight.FlightService_DoPutClient) ([]byte, error) {
	var last []byte
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		last = answer.GetAppMetadata()
	}
	var answer struct{ Type string }
	if err := json.Unmarshal(last, &answer); err != nil || answer.Type != "receipt" {
		return nil, status.Error(codes.Unavailable, "the stream ended without a receipt")
	}
	return last, nil
}

func withClient(ctx context.Context, o options, use func(context.Context, flight.Client) error) error {
	address, dial, err := dialOptions(o)
	if err != nil {
		return err
	}
	ctx, err = withToken(ctx, o)
	if err != nil {
		return err
	}
	client, err := flight.NewClientWithMiddleware(address, nil, nil, dial...)
	if err != nil {
		return err
	}
	defer client.Close()
	return use(ctx, client)
}
