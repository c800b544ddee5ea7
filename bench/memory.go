package main

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// memorySize is about what a million sessions take.
	memorySize = 300 << 20
	// memoryRest is for how long memory is left alone.
	memoryRest = 30 * time.Second
	// memoryTouches is how often it is touched.
	memoryTouches = 20_000
)

// memory is what it costs to touch memory at random.
type memory struct {
	MiB           int
	Rest          time.Duration
	Fresh, Rested time.Duration // a touch, on average
}

// measureMemory touches memory at random that was just written, and again after
// it was left alone. On a virtual machine whose host takes memory back that
// nobody uses, the two differ.
func measureMemory(ctx context.Context) (memory, error) {
	room := make([]byte, memorySize)
	for at := 0; at < len(room); at += 64 {
		room[at] = byte(at)
	}
	m := memory{MiB: memorySize >> 20, Rest: memoryRest, Fresh: touch(room)}
	select {
	case <-ctx.Done():
		return m, ctx.Err()
	case <-time.After(memoryRest):
	}
	m.Rested = touch(room)
	return m, nil
}

// touch returns what a touch of some memory takes. Each has to wait for the one
// before.
func touch(room []byte) time.Duration {
	began, sum := time.Now(), 0
	for range memoryTouches {
		sum += int(room[(rand.IntN(len(room))+sum)%len(room)])
	}
	return (time.Since(began) / memoryTouches).Round(10 * time.Nanosecond)
}
