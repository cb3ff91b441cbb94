package native

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"lab/loadtest/internal/engine/host"
)

const (
	cacheVariable = "LAB_CACHE_DIR"
	cacheName     = "polyglot-lab"
	// completeName is written into a cached folder last. It holds the digest of the folder's list of files, so that a
	// folder from which something was lost, cut short or changed is known.
	completeName = ".complete"
)

// cacheFolder returns a folder that outlives runs and that the user who runs PostgreSQL can reach.
func cacheFolder(tempDir string, user serverUser) (string, error) {
	if dir := os.Getenv(cacheVariable); dir != "" {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("%s: %w", cacheVariable, err)
		}
		if err := makeCacheFolder(dir); err != nil {
			return "", fmt.Errorf("%s: %w", cacheVariable, err)
		}
		if !user.canReach(dir) {
			return "", fmt.Errorf("%s: user %s, who runs PostgreSQL, cannot reach %s: some folder above it is closed", cacheVariable, user.name, dir)
		}
		return dir, nil
	}
	if base, err := os.UserCacheDir(); err == nil {
		dir := filepath.Join(base, cacheName)
		if makeCacheFolder(dir) == nil && user.canReach(dir) {
			return dir, nil
		}
	}
	// Root's home is usually closed to others.
	dir := filepath.Join(tempDir, cacheName+"-cache-"+strconv.Itoa(os.Geteuid()))
	if err := makeCacheFolder(dir); err != nil {
		return "", fmt.Errorf("make a cache folder: %w", err)
	}
	if !user.canReach(dir) {
		return "", fmt.Errorf("user %s, who runs PostgreSQL, can reach neither the user's cache folder nor %s: name another folder in %s", user.name, dir, cacheVariable)
	}
	return dir, nil
}

// makeCacheFolder makes the folder or checks that the one there is this user's and that nobody else can write in it:
// in a folder that all can write to, another user could have put one there beforehand.
func makeCacheFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a folder of this user", dir)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others", dir)
	}
	return nil
}

// cached returns the folder of that key in the cache. Where there is none, or a damaged one, build makes it in a folder
// that is moved into place when complete. Several programs at once build it once.
func cached(ctx context.Context, cacheDir, key string, build func(dir string) error) (string, error) {
	release, err := host.LockFile(ctx, filepath.Join(cacheDir, key+".lock"))
	if err != nil {
		return "", err
	}
	defer release()
	dir := filepath.Join(cacheDir, key)
	if isComplete(dir) {
		return dir, nil
	}
	// What a killed program left: nobody else builds this key while we hold its lock.
	left, _ := filepath.Glob(filepath.Join(cacheDir, "building-"+key+"-*"))
	for _, old := range append(left, dir) {
		if err := os.RemoveAll(old); err != nil {
			return "", fmt.Errorf("remove an incomplete cache entry: %w", err)
		}
	}
	temporary, err := os.MkdirTemp(cacheDir, "building-"+key+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	if err := os.Chmod(temporary, 0o711); err != nil {
		return "", err
	}
	if err := build(temporary); err != nil {
		return "", err
	}
	digest, err := listingDigest(temporary)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(temporary, completeName), []byte(digest), 0o600); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return "", err
	}
	return dir, nil
}

func isComplete(dir string) bool {
	want, err := os.ReadFile(filepath.Join(dir, completeName))
	if err != nil {
		return false
	}
	got, err := listingDigest(dir)
	return err == nil && got == string(want)
}

// listingDigest digests names, sizes and times of change of all files below dir, the completeness file aside.
func listingDigest(dir string) (string, error) {
	hash := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == completeName {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if entry.IsDir() {
			fmt.Fprintf(hash, "%q folder\n", name)
			return nil
		}
		fmt.Fprintf(hash, "%q %s %d %d\n", name, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
