package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// slots is the number of hash slots of a cluster.
const slots = 16384

// Cluster is a Redis cluster.
type Cluster struct {
	// Primaries hold a third of the keys each.
	Primaries []*Server
	// Replica replicates the first primary, and takes over within seconds.
	Replica *Server
}

// StartCluster starts a cluster of three primaries and a replica, and waits until
// it is ready.
func StartCluster(ctx context.Context) (c *Cluster, err error) {
	c = new(Cluster)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	var all []*Server
	for range 4 {
		s, err := Start(ctx, "cluster-enabled yes", "cluster-node-timeout 1000", "cluster-replica-validity-factor 0")
		if err != nil {
			return c, err
		}
		all = append(all, s)
		if len(all) <= 3 {
			c.Primaries = append(c.Primaries, s)
		} else {
			c.Replica = s
		}
	}
	for i, s := range all {
		if i < 3 {
			err = s.mustDo(ctx, "CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*slots/3), fmt.Sprint((i+1)*slots/3-1))
		}
		if err == nil && i > 0 {
			err = all[0].mustDo(ctx, "CLUSTER", "MEET", "127.0.0.1", fmt.Sprint(s.port))
		}
		if err != nil {
			return c, err
		}
	}
	id, err := all[0].ID(ctx)
	if err != nil {
		return c, err
	}
	if err := eventually(ctx, func() bool { return c.Replica.mustDo(ctx, "CLUSTER", "REPLICATE", id) == nil }); err != nil {
		return c, err
	}
	for _, s := range all {
		if err := eventually(ctx, func() bool {
			info, err := s.Do(ctx, "CLUSTER", "INFO")
			nodes, err2 := s.Do(ctx, "CLUSTER", "NODES")
			return err == nil && err2 == nil && strings.Contains(info, "cluster_state:ok") &&
				strings.Count(nodes, "connected") == 4 && strings.Count(nodes, "slave "+id) == 1
		}); err != nil {
			return c, err
		}
	}
	return c, nil
}

// ID returns the node ID of the server.
func (s *Server) ID(ctx context.Context) (string, error) {
	text, err := s.Do(ctx, "CLUSTER", "MYID")
	if _, id, ok := strings.Cut(strings.TrimSpace(text), "\r\n"); ok && err == nil {
		return id, nil
	}
	return "", errors.Join(err, errors.New("the server has no node ID"))
}

// mustDo sends a command whose answer must be OK.
func (s *Server) mustDo(ctx context.Context, words ...string) error {
	text, err := s.Do(ctx, words...)
	if err == nil && !strings.HasPrefix(text, "+OK") {
		err = fmt.Errorf("%v: %s", words, strings.TrimSpace(text))
	}
	return err
}

// eventually waits until a condition holds.
func eventually(ctx context.Context, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster is not ready: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// Close stops all servers.
func (c *Cluster) Close() error {
	var failures []error
	for _, s := range slices.Concat(c.Primaries, []*Server{c.Replica}) {
		if s != nil {
			failures = append(failures, s.Close())
		}
	}
	return errors.Join(failures...)
}
