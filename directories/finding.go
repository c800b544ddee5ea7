package directories

import "context"

// Diagnoser is a Directory that can examine its own configuration, for the
// command `caddy stale-session doctor`.
type Diagnoser interface {
	// Diagnose looks for what keeps users from being looked up, or changes from
	// being noticed. It changes nothing.
	Diagnose(ctx context.Context) []Finding
}

// Finding is one result of an examination.
type Finding struct {
	// Level says how grave it is.
	Level Level `json:"level"`
	// Text says what was found.
	Text string `json:"text"`
	// Remedy says what to do about it; empty for nothing.
	Remedy string `json:"remedy,omitempty"`
}

// Level says how grave a finding is.
type Level string

// The levels.
const (
	// Good is as it should be.
	Good Level = "good"
	// Note is worth knowing.
	Note Level = "note"
	// Bad keeps the module from doing its work.
	Bad Level = "bad"
)
