// Gitea itself, as its own main builds it: the forge that tests talk to.
package main

import (
	"os"
	"time"

	"code.gitea.io/gitea/cmd"
	"code.gitea.io/gitea/modules/log"
	"code.gitea.io/gitea/modules/setting"
)

// version is what the server reports; the linker sets it.
var version = "development"

func main() {
	setting.AppVer, setting.AppStartTime = version, time.Now().UTC()
	_ = cmd.RunMainApp(cmd.NewMainApp(cmd.AppVersion{Version: version}), os.Args...) // it reports its error and exits with it
	log.GetManager().Close()                                                         // else what it logged last is lost
}
