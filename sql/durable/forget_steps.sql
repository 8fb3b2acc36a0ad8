-- forget_steps: have job $1, which has ended, forget step $2 and all that were stored after it; returns how many.

select pgqueue.forget_steps($1, $2)
