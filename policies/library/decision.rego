# METADATA
# title: The decision on one command
# description: |
#   `data.sallyport.decision` is the object {"verdict", "rule", "reason"} that
#   every caller reads. Each rule of this package is a field of it.
#   Nothing but the verdict "allow" allows; an answer without a verdict denies.
package sallyport.decision

import data.sallyport.judgement

verdict := judgement.decision.verdict

rule := judgement.decision.rule

reason := judgement.decision.reason
