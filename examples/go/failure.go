package main

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
)

// details returns the kind of an error, and how long the server asks us to wait.
func details(err error) (kind string, delay time.Duration) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			kind = detail.GetReason()
		case *errdetails.RetryInfo:
			delay = detail.GetRetryDelay().AsDuration()
		}
	}
	return kind, delay
}

// mayBeRepeated is what the reference says of errors: these four codes, and no other.
func mayBeRepeated(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Internal:
		return true
	default:
		return false
	}
}

// untilAnswered calls until it succeeds, fails for good, or the deadline has passed: longer pauses each time, by a
// random part, and never shorter than the server asks for.
func untilAnswered(ctx context.Context, deadline time.Duration, call func(context.Context) error) error {
	end, wait := time.Now().Add(deadline), firstWait
	for {
		err := once(ctx, call)
		if err == nil || !mayBeRepeated(err) {
			return err
		}
		_, delay := details(err)
		pause := max(delay, time.Duration(float64(wait)*(0.5+rand.Float64()/2)))
		if time.Now().Add(pause).After(end) {
			return err
		}
		time.Sleep(pause)
		wait = min(2*wait, longestWait)
	}
}

// once cancels what it leaves unfinished, so that the server never takes it for a stream that ended.
func once(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return call(ctx)
}
