package directory

import (
	"context"
	"strings"
)

// Chain is directories that are asked one after the other. The first that has
// an account answers. Only the last can say that there is none, or that it is
// not known.
type Chain struct{ directories []Directory }

// NewChain returns a chain of directories, at least one.
func NewChain(directories ...Directory) *Chain { return &Chain{directories} }

// Directories returns the directories, in their order.
func (c *Chain) Directories() []Directory { return c.directories }

// Lookup implements Directory. What an earlier directory knows from before
// counts for nothing while it is away: the next one is asked.
func (c *Chain) Lookup(ctx context.Context, query Query, account *Account) (Source, error) {
	last := len(c.directories) - 1
	for _, d := range c.directories[:last] {
		source, err := d.Lookup(ctx, query, account)
		if err == nil && account.Exists && source != FromFallback {
			return source, nil
		}
	}
	return c.directories[last].Lookup(ctx, query, account)
}

// Braking implements Directory.
func (c *Chain) Braking() bool {
	for _, d := range c.directories {
		if d.Braking() {
			return true
		}
	}
	return false
}

// Flush implements Directory.
func (c *Chain) Flush() int64 {
	n := int64(0)
	for _, d := range c.directories {
		n += d.Flush()
	}
	return n
}

// Stats implements Directory: sums, and the gravest state.
func (c *Chain) Stats() Stats {
	all := Stats{Watching: true, Notified: true}
	var failures, users []string
	for _, d := range c.directories {
		s := d.Stats()
		all.Accounts.Entries += s.Accounts.Entries
		all.Accounts.Bytes += s.Accounts.Bytes
		all.Accounts.Hits += s.Accounts.Hits
		all.Accounts.Misses += s.Accounts.Misses
		all.Accounts.Evictions += s.Accounts.Evictions
		all.Watching, all.Notified = all.Watching && s.Watching, all.Notified && s.Notified
		all.Broken, all.Blind, all.Braking = all.Broken || s.Broken, all.Blind || s.Blind, all.Braking || s.Braking
		all.Connections, all.Busy = all.Connections+s.Connections, all.Busy+s.Busy
		all.Rechecked, all.Epochs, all.Notifications = all.Rechecked+s.Rechecked, all.Epochs+s.Epochs, all.Notifications+s.Notifications
		if s.Failure != "" {
			failures = append(failures, s.Failure)
		}
		if s.Users != "" {
			users = append(users, s.Users)
		}
	}
	all.Failure, all.Users = strings.Join(failures, "; "), strings.Join(users, "; ")
	return all
}

// String implements Directory.
func (c *Chain) String() string {
	names := make([]string, len(c.directories))
	for i, d := range c.directories {
		names[i] = d.String()
	}
	return strings.Join(names, ", then ")
}
