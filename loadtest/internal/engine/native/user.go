package native

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// serverUser is who runs PostgreSQL: this user, or where that is root, which PostgreSQL refuses to run as, another one.
type serverUser struct {
	name     string
	uid, gid int
	// credential is nil where it is this user.
	credential *syscall.Credential
}

func findServerUser() (serverUser, error) {
	if uid := os.Geteuid(); uid != 0 {
		return serverUser{name: strconv.Itoa(uid), uid: uid, gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if uidErr != nil || gidErr != nil || uid == 0 {
			continue
		}
		return serverUser{
			name: name, uid: int(uid), gid: int(gid),
			credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		}, nil
	}
	return serverUser{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}

// canReach says whether the user may pass through every folder down to path.
func (u serverUser) canReach(path string) bool {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for dir := resolved; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return false
		}
		mode := info.Mode().Perm()
		bit := os.FileMode(0o001)
		if int(stat.Uid) == u.uid {
			bit = 0o100
		} else if int(stat.Gid) == u.gid {
			bit = 0o010
		}
		if mode&bit == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// makeFolder makes a folder that belongs to the user alone.
func (u serverUser) makeFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return u.own(path)
}

// own gives the user what this program made.
func (u serverUser) own(path string) error {
	if u.credential == nil {
		return nil
	}
	if err := os.Lchown(path, u.uid, u.gid); err != nil {
		return fmt.Errorf("give %s to user %s: %w", filepath.Base(path), u.name, err)
	}
	return nil
}
